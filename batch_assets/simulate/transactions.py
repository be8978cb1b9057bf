"""The transactions of one region on one UTC day."""

import datetime
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from batch_assets.simulate import clock
from batch_assets.simulate.fraud import Compromises, Patterns, commit_fraud
from batch_assets.simulate.population import Population
from batch_assets.simulate.world import ASIA, Draw, Parameters, Region

Ints = npt.NDArray[np.int64]

HABIT_MEAN_MS = 13.5 * clock.HOUR_MS  # when people pay, by their own clock
HABIT_SPREAD_MS = 4.5 * clock.HOUR_MS
SMALLEST_EUROS, LARGEST_EUROS = 0.5, 9000.0
WON_PER_YEN = 10


@dataclass(frozen=True)
class Transactions:
    """Transactions in the order of their time; every array has shape [n]."""

    day: datetime.date
    number: Ints  # counts from 0 within region and day
    customer: Ints
    terminal: Ints
    utc_ms: Ints  # milliseconds since UTC midnight of `day`
    amount: Ints  # in the currency's smallest unit: cents, yen, won
    pattern: Patterns

    def __len__(self) -> int:
        return len(self.number)

    def take(self, rows: Ints) -> "Transactions":
        """Only these rows, in this order."""
        columns = ("number", "customer", "terminal", "utc_ms", "amount", "pattern")
        return replace(self, **{name: getattr(self, name)[rows] for name in columns})


def pays_in_won(customer: Ints) -> npt.NDArray[np.bool_]:
    """Which customers of the Asian feed have accounts in won instead of yen: a tenth."""
    won: npt.NDArray[np.bool_] = customer % 10 == 3
    return won


def pay(
    parameters: Parameters,
    region: Region,
    population: Population,
    compromises: Compromises,
    day: int,
) -> Transactions:
    """Simulate one region's transactions on the UTC day with this number."""
    random = parameters.random(Draw.TRANSACTIONS, day, region)
    payments = random.poisson(population.payments_a_day)
    customer = np.repeat(np.arange(population.customers), payments)
    terminal = population.nearby_terminal(customer, random.random(len(customer)))
    mean = population.mean_amount[customer]
    euros = random.normal(mean, mean / 2)
    euros = np.where(euros > 0, euros, random.uniform(0, 2 * mean))
    utc_ms = _moments(random, region, parameters.date(day), len(customer))
    pattern = commit_fraud(
        parameters.random(Draw.FRAUD, day, region),
        customer,
        terminal,
        euros,
        compromises.terminals_on(day),
        compromises.customers_on(day),
    )
    order = np.argsort(utc_ms, kind="stable")
    return Transactions(
        day=parameters.date(day),
        number=np.arange(len(customer)),
        customer=customer[order],
        terminal=terminal[order],
        utc_ms=utc_ms[order],
        amount=_smallest_units(region, customer, euros)[order],
        pattern=pattern[order],
    )


def _moments(random: np.random.Generator, region: Region, day: datetime.date, count: int) -> Ints:
    """Moments of a UTC day at which people who live by the region's clock pay."""
    local = random.normal(HABIT_MEAN_MS, HABIT_SPREAD_MS, count).astype(np.int64)
    noon_offset = int(clock.utc_offsets(region.time_zone, day)[12]) * 1000
    utc_ms: Ints = (local - noon_offset) % clock.DAY_MS
    return utc_ms if region is ASIA else utc_ms // 1000 * 1000


def _smallest_units(region: Region, customer: Ints, euros: npt.NDArray[np.float64]) -> Ints:
    units = euros.clip(SMALLEST_EUROS, LARGEST_EUROS) * region.units_per_euro
    if region is ASIA:
        return np.rint(np.where(pays_in_won(customer), units * WON_PER_YEN, units)).astype(np.int64)
    return np.rint(units * 100).astype(np.int64)
