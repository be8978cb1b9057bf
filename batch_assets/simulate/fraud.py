"""The three fraud patterns: large amounts, compromised terminals, compromised customers."""

import enum
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batch_assets.simulate.population import Population
from batch_assets.simulate.world import LONGEST_COMPROMISE_DAYS, Draw, Parameters, Region

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Patterns = npt.NDArray[np.uint8]


class Pattern(enum.IntEnum):
    """What a transaction is. All above LARGE_GENUINE are frauds."""

    GENUINE = 0
    LARGE_GENUINE = 1
    LARGE_AMOUNT = 2
    COMPROMISED_TERMINAL = 3
    COMPROMISED_CUSTOMER = 4


LARGE_EUROS = (300.0, 2500.0)
LARGE_AMOUNT_SHARE = 0.0012
LARGE_GENUINE_SHARE = 0.0004

TERMINAL_DAYS = LONGEST_COMPROMISE_DAYS
TERMINALS_A_DAY = 1 / 5000  # share of all terminals newly compromised each day
TERMINAL_FRAUD_SHARE = 0.9  # of its payments while it is compromised

CUSTOMER_DAYS = 14
CUSTOMERS_A_DAY = 3 / 5000
CUSTOMER_FRAUD_SHARE = 1 / 3
CUSTOMER_AMOUNT_FACTOR = 5.0


def is_fraud(pattern: Patterns) -> npt.NDArray[np.bool_]:
    """Which transactions are frauds."""
    return pattern > Pattern.LARGE_GENUINE


@dataclass(frozen=True)
class Compromises:
    """Who in a region falls into wrong hands, by the day on which it begins."""

    terminals: dict[int, Ints]
    customers: dict[int, Ints]

    def terminals_on(self, day: int) -> Ints:
        """Terminals compromised on a day."""
        return _within(self.terminals, day, TERMINAL_DAYS)

    def customers_on(self, day: int) -> Ints:
        """Customers compromised on a day."""
        return _within(self.customers, day, CUSTOMER_DAYS)


def foresee_compromises(
    parameters: Parameters, region: Region, population: Population
) -> Compromises:
    """Draw the compromises of all days, and of the weeks before the first one."""
    terminals: dict[int, Ints] = {}
    customers: dict[int, Ints] = {}
    for day in range(1 - LONGEST_COMPROMISE_DAYS, parameters.days):
        random = parameters.random(Draw.COMPROMISES, day, region)
        terminals[day] = _some(random, population.terminals, TERMINALS_A_DAY)
        customers[day] = _some(random, population.customers, CUSTOMERS_A_DAY)
    return Compromises(terminals, customers)


def commit_fraud(
    random: np.random.Generator,
    customer: Ints,
    terminal: Ints,
    euros: Floats,
    bad_terminals: Ints,
    bad_customers: Ints,
) -> Patterns:
    """Say which of a day's transactions are what, and change `euros` in place to match."""
    luck = random.random((3, len(euros)))
    pattern = np.zeros(len(euros), dtype=np.uint8)
    stolen = np.isin(customer, bad_customers) & (luck[0] < CUSTOMER_FRAUD_SHARE)
    euros[stolen] *= CUSTOMER_AMOUNT_FACTOR
    pattern[stolen] = Pattern.COMPROMISED_CUSTOMER
    tapped = np.isin(terminal, bad_terminals) & (luck[1] < TERMINAL_FRAUD_SHARE)
    pattern[tapped] = Pattern.COMPROMISED_TERMINAL
    large = luck[2] < LARGE_AMOUNT_SHARE + LARGE_GENUINE_SHARE
    euros[large] = random.uniform(*LARGE_EUROS, int(large.sum()))
    pattern[luck[2] < LARGE_AMOUNT_SHARE] = Pattern.LARGE_AMOUNT
    pattern[large & (pattern == Pattern.GENUINE)] = Pattern.LARGE_GENUINE
    return pattern


def _within(starts: dict[int, Ints], day: int, length: int) -> Ints:
    return np.concatenate([starts[first] for first in range(day - length + 1, day + 1)])


def _some(random: np.random.Generator, population: int, share: float) -> Ints:
    """A share of a population, rounded up or down by chance so that the mean is right."""
    number = int(population * share + random.random())
    return random.integers(0, population, number)
