"""The simulation from beginning to end: a data home with landing files, day by day."""

import datetime
import pathlib
from collections.abc import Callable
from dataclasses import dataclass

from batch_assets.simulate.delivery import Courier, Landing
from batch_assets.simulate.fraud import foresee_compromises, is_fraud
from batch_assets.simulate.home import prepare
from batch_assets.simulate.population import settle
from batch_assets.simulate.reference import ExchangeRates, FraudReports
from batch_assets.simulate.transactions import pay
from batch_assets.simulate.world import REGIONS, Parameters

DEFAULT_START = datetime.date(2026, 3, 1)
DEFAULT_SEED = 7
DEFAULT_CUSTOMERS = 1500
DEFAULT_TERMINALS = 2500


@dataclass(frozen=True)
class SimulationSummary:
    """What a simulation delivered.

    Attributes:
        first_day, last_day: UTC days simulated, both included.
        files, bytes: files under landing/, those of labels and rates included.
        rows: transaction rows in all files, repeated ones and those of a file that was cut
            included: `transactions - undelivered` and what `planted` counts as repeated_*,
            conflict_*, copied_file_rows and resent_after_truncation.
        transactions: transactions that happened.
        frauds: those of them that are frauds.
        undelivered: transactions still on their way after the last day.
        planted: how often each imperfection was planted, by its name.
    """

    first_day: datetime.date
    last_day: datetime.date
    files: int
    bytes: int
    rows: int
    transactions: int
    frauds: int
    undelivered: int
    planted: dict[str, int]


def simulate(
    home: pathlib.Path,
    *,
    days: int,
    seed: int = DEFAULT_SEED,
    start: datetime.date = DEFAULT_START,
    customers: int = DEFAULT_CUSTOMERS,
    terminals: int = DEFAULT_TERMINALS,
    progress: Callable[[int, int], None] | None = None,
) -> SimulationSummary:
    """Fill a data home with `days` days of deliveries from three institutions.

    The same arguments give the same bytes, and more days give the same files for the first
    ones. About 1.9 transactions a customer and day, one in a hundred of them a fraud.

    Args:
        home: the data home; gets settings.toml, feeds.yaml and landing/.
        days: number of UTC days from `start` on; nothing arrives after the last one.
        progress: called after each day with the days done and the days in all.

    Raises:
        BatchAssetsError: a number is too small, or the home holds other data.
    """
    parameters = Parameters(days, seed, start, customers, terminals)
    landing = Landing(prepare(home, parameters))
    populations = [settle(parameters, region) for region in REGIONS]
    compromises = [
        foresee_compromises(parameters, region, population)
        for region, population in zip(REGIONS, populations, strict=True)
    ]
    couriers = [Courier(parameters, region, landing) for region in REGIONS]
    rates, reports = ExchangeRates(parameters, landing), FraudReports(parameters, landing)
    transactions = frauds = 0
    for day in range(days):
        rates.deliver(day)
        for region, population, fate, courier in zip(
            REGIONS, populations, compromises, couriers, strict=True
        ):
            paid = pay(parameters, region, population, fate, day)
            courier.deliver(day, paid)
            reports.investigate(day, region, paid)
            transactions += len(paid)
            frauds += int(is_fraud(paid.pattern).sum())
        reports.deliver(day)
        if progress is not None:
            progress(day + 1, days)
    return SimulationSummary(
        first_day=start,
        last_day=parameters.date(days - 1),
        files=landing.files,
        bytes=landing.size,
        rows=landing.rows,
        transactions=transactions,
        frauds=frauds,
        undelivered=sum(courier.undelivered for courier in couriers),
        planted=dict(sorted(landing.planted.items())),
    )
