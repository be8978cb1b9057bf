"""The two feeds beside the transactions: exchange rates and fraud reports."""

from collections import defaultdict

import numpy as np

from batch_assets.simulate import notation
from batch_assets.simulate.delivery import Landing
from batch_assets.simulate.fraud import Pattern, is_fraud
from batch_assets.simulate.transactions import Transactions
from batch_assets.simulate.world import ASIA, Draw, Parameters, Region

EUROS_A_UNIT = {"GBP": 1.16, "JPY": 1 / 165, "KRW": 1 / 1650, "USD": 1 / 1.1}
DAILY_CHANGE = 0.004  # standard deviation of the logarithm

REPORT_DELAYS = {6: 0.03, 7: 0.95, 8: 0.01, 9: 0.01}
"""After how many days which share of the reports arrives."""

CLEARED_SHARE = 0.3
"""Of large genuine purchases: looked into, and reported as no fraud."""


class ExchangeRates:
    """A random walk a currency, one file a day: what a unit is worth in euros."""

    def __init__(self, parameters: Parameters, landing: Landing) -> None:
        self.parameters = parameters
        self.landing = landing
        self._logarithm = np.log(list(EUROS_A_UNIT.values()))

    def deliver(self, day: int) -> None:
        """Write the day's rates; days are asked for in their order."""
        change = self.parameters.random(Draw.RATES, day).normal(0, DAILY_CHANGE, len(EUROS_A_UNIT))
        self._logarithm = self._logarithm + change
        date = self.parameters.date(day)
        lines = ["date,currency,rate"]
        for currency, rate in zip(EUROS_A_UNIT, np.exp(self._logarithm), strict=True):
            lines.append(f"{date},{currency},{rate:.10f}")
        content = "\n".join(lines) + "\n"
        self.landing.write(f"exchange_rates/{date}/rates.csv", content.encode())


class FraudReports:
    """Which transactions turned out to be frauds, about seven days later."""

    def __init__(self, parameters: Parameters, landing: Landing) -> None:
        self.parameters = parameters
        self.landing = landing
        self._on_their_way: dict[int, list[tuple[str, str]]] = defaultdict(list)

    def investigate(self, day: int, region: Region, transactions: Transactions) -> None:
        """Put the reports on a day's transactions on their way."""
        random = self.parameters.random(Draw.REPORTS, day, region)
        large = transactions.pattern == Pattern.LARGE_GENUINE
        cleared = large & (random.random(len(transactions)) < CLEARED_SHARE)
        fraud = is_fraud(transactions.pattern)
        rows = np.flatnonzero(fraud | cleared)
        delays = random.choice(list(REPORT_DELAYS), len(rows), p=list(REPORT_DELAYS.values()))
        reported = transactions.take(rows)
        keys = notation.transaction_ids(region, reported).to_pylist()
        times = notation.iso_times(region, reported, milliseconds=region is ASIA).to_pylist()
        for key, time, label, delay in zip(keys, times, fraud[rows], delays, strict=True):
            report = f"{key},{time},{int(label)}\n"
            kind = "fraud_reports" if label else "cleared_reports"
            early_or_late = {6: "_early", 7: ""}.get(int(delay), "_late")
            self._on_their_way[day + int(delay)].append((kind + early_or_late, report))

    def deliver(self, day: int) -> None:
        """Write the reports that arrive on a day; the first days have none, only a header."""
        reports = self._on_their_way.pop(day, [])
        for kind, _ in reports:
            self.landing.planted[kind] += 1
        content = "transaction,time,fraud\n" + "".join(report for _, report in reports)
        date = self.parameters.date(day)
        self.landing.write(f"fraud_reports/{date}/reports.csv", content.encode())
