"""What a simulation is made of: its parameters, its regions, and its random numbers."""

import datetime
import enum
from dataclasses import dataclass

import numpy as np

from batch_assets.errors import BatchAssetsError


class Draw(enum.IntEnum):
    """What random numbers are drawn for; each purpose has its own branch of the tree."""

    POPULATION = 1
    TRANSACTIONS = 2
    COMPROMISES = 3
    FRAUD = 4
    FLAWS = 5
    REPORTS = 6
    RATES = 7


@dataclass(frozen=True)
class Region:
    """A part of the world that one institution reports on."""

    number: int
    name: str
    feed: str
    time_zone: str
    share: float  # of all customers and terminals
    units_per_euro: float  # of the region's main currency, for typical amounts


EUROPE = Region(0, "europe", "europe_cards", "Europe/Berlin", 0.45, 1.0)
AMERICA = Region(1, "america", "america_pos", "America/New_York", 0.35, 1.1)
ASIA = Region(2, "asia", "asia_wallet", "Asia/Tokyo", 0.20, 165.0)
REGIONS = (EUROPE, AMERICA, ASIA)

YEARS = range(1970, 2100)
MOST_DAYS = 3660
LONGEST_COMPROMISE_DAYS = 28
"""Compromises start up to that many days before the first day, so that none begins empty."""


@dataclass(frozen=True)
class Parameters:
    """Everything that the bytes of a simulation depend on.

    Raises:
        BatchAssetsError: a value with which nothing can be simulated.
    """

    days: int
    seed: int
    start: datetime.date
    customers: int
    terminals: int

    def __post_init__(self) -> None:
        least = {"days": 1, "seed": 0, "customers": len(REGIONS), "terminals": len(REGIONS)}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise BatchAssetsError(
                    f"simulate: {name} is {getattr(self, name)}; give {value} or more."
                )
        if self.days > MOST_DAYS:
            raise BatchAssetsError(f"simulate: days is {self.days}; give {MOST_DAYS} or fewer.")
        if self.start.year not in YEARS:
            raise BatchAssetsError(
                f"simulate: start is {self.start}; give a day from {YEARS[0]} to {YEARS[-1]}."
            )

    def date(self, day: int) -> datetime.date:
        """The calendar day (UTC) of the day with this number, which counts from 0."""
        return self.start + datetime.timedelta(days=day)

    def random(self, draw: Draw, day: int = 0, region: Region | None = None) -> np.random.Generator:
        """The random numbers for one purpose, day and region.

        They depend on nothing else, so a longer simulation begins with the days of a
        shorter one.
        """
        branch = 0 if region is None else region.number + 1
        return np.random.default_rng([self.seed, draw, branch, day + LONGEST_COMPROMISE_DAYS])

    def inhabitants(self, region: Region) -> tuple[int, int]:
        """Number of customers and of terminals of a region, each at least 1."""
        return _part(self.customers, region), _part(self.terminals, region)


def _part(total: int, region: Region) -> int:
    """A region's part of `total`: the parts of all regions add up to it."""
    small = [max(1, int(total * other.share)) for other in REGIONS[1:]]
    return total - sum(small) if region.number == 0 else small[region.number - 1]
