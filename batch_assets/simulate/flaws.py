"""What goes wrong with single rows on their way: at most one flaw a row."""

import enum

import numpy as np
import numpy.typing as npt

from batch_assets.simulate import clock
from batch_assets.simulate.world import AMERICA, ASIA, EUROPE, Draw, Parameters, Region

Flaws = npt.NDArray[np.uint8]


class Flaw(enum.IntEnum):
    """A flaw of one row; its lower-case name is the key in `SimulationSummary.planted`."""

    NONE = 0
    MISSING_CUSTOMER = 1
    MISSING_TERMINAL = 2
    MISSING_AMOUNT = 3
    UNPARSABLE_AMOUNT = 4
    NEGATIVE_AMOUNT = 5
    FUTURE_DATE = 6
    UNKNOWN_CURRENCY = 7
    NO_SUCH_LOCAL_TIME = 8  # the clock jumped over it in spring
    INVALID_JSON = 9
    INVALID_UTF8 = 10
    REPEATED_IN_FILE = 11
    REPEATED_NEXT_DAY = 12
    CONFLICT_IN_FILE = 13  # the key again with another amount
    CONFLICT_NEXT_DAY = 14
    LATE = 15  # arrives one to six days late


COMMON = {
    Flaw.MISSING_CUSTOMER: 0.0004,
    Flaw.MISSING_TERMINAL: 0.0003,
    Flaw.MISSING_AMOUNT: 0.0003,
    Flaw.REPEATED_IN_FILE: 0.001,
    Flaw.REPEATED_NEXT_DAY: 0.001,
    Flaw.CONFLICT_IN_FILE: 0.0001,
    Flaw.CONFLICT_NEXT_DAY: 0.0001,
    Flaw.LATE: 0.006,
}
"""Share of all rows with each flaw that happens every day."""

RARE = (
    (3, EUROPE, Flaw.INVALID_UTF8, 1),
    (4, AMERICA, Flaw.INVALID_JSON, 1),
    (5, EUROPE, Flaw.UNPARSABLE_AMOUNT, 2),
    (5, AMERICA, Flaw.UNPARSABLE_AMOUNT, 2),
    (6, ASIA, Flaw.UNKNOWN_CURRENCY, 1),
    (7, AMERICA, Flaw.NEGATIVE_AMOUNT, 1),
    (8, ASIA, Flaw.FUTURE_DATE, 1),
)
"""Flaws that happen once: day number, region, flaw, rows."""

IMPOSSIBLE_TIMES = 3
"""Rows with a local time that does not exist, on each spring day of the European feed."""

LATEST_ARRIVAL_DAYS = 6


def draw_flaws(parameters: Parameters, region: Region, day: int, rows: int) -> Flaws:
    """Give some of a day's rows a flaw; the result has shape [rows]."""
    random = parameters.random(Draw.FLAWS, day, region)
    thresholds = np.cumsum(list(COMMON.values()))
    kinds = np.array([*COMMON, Flaw.NONE], dtype=np.uint8)
    flaws: Flaws = kinds[np.searchsorted(thresholds, random.random(rows), side="right")]
    rare = [(flaw, count) for at, where, flaw, count in RARE if (at, where) == (day, region)]
    if region is EUROPE and clock.spring_gap(region.time_zone, parameters.date(day)):
        rare.append((Flaw.NO_SUCH_LOCAL_TIME, IMPOSSIBLE_TIMES))
    for flaw, count in rare:
        sound = np.flatnonzero(flaws == Flaw.NONE)
        flaws[random.choice(sound, min(count, len(sound)), replace=False)] = flaw
    return flaws


def draw_delays(parameters: Parameters, region: Region, day: int, rows: int) -> Flaws:
    """Days from 1 to 6 by which late rows are late; shape [rows]."""
    random = parameters.random(Draw.FLAWS, day, region).spawn(1)[0]
    return random.integers(1, LATEST_ARRIVAL_DAYS + 1, rows, dtype=np.uint8)
