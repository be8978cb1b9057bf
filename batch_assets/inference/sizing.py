"""How many rows to compute at once: found by measuring, kept between runs.

Sizes are 256 rows times a power of two: between those, fp32 results do not differ, so that a
choice that depends on time leaves no trace in the result.
"""

import statistics
import threading
from dataclasses import dataclass

from batch_assets.errors import BatchAssetsError

ROW_STEP = 256
START_ROWS = 512
# A larger size must be faster by this much: below it, less memory is worth more.
GAIN = 1.03
WINDOWS = 7
WINDOWED_ROWS = 16_384


@dataclass(frozen=True)
class Learned:
    """What is known of a model on a device.

    ``rows`` is the fastest size so far, ``settled`` whether larger ones were found no better,
    ``too_large`` the smallest number of rows that did not fit into memory.
    """

    rows: int = START_ROWS
    settled: bool = False
    too_large: int | None = None


def half_of(rows: int) -> int:
    """The largest size that is at most half of so many rows, and at least 256."""
    half = ROW_STEP
    while half * 4 <= rows:
        half *= 2
    return half


class BatchSizer:
    """Chooses the rows of each compute batch while the work goes on; several threads may ask.

    It starts small and compares with twice as many rows, by turns, so that what else the machine
    does falls on both alike: the median time of windows of as many rows each. As long as the
    larger size is faster it goes on from there. If it is not, and four times as many rows are not
    either, it settles. A size is at most twice one that was executed, and never one as large as
    what once did not fit into memory.

    Args:
        largest: the most rows that a batch can have, at least 256.
        learned: where to go on; settled, it is only ever made smaller.
    """

    def __init__(self, largest: int, learned: Learned | None = None) -> None:
        learned = learned or Learned()
        self._largest = largest
        self._best = min(learned.rows, largest)
        self._too_large = learned.too_large
        self._lock = threading.Lock()
        self._trial: int | None = None
        self._times: dict[int, list[float]] = {}
        self._asked: dict[int, int] = {}
        if not learned.settled:
            self._compare()
        self._settled = self._trial is None

    @property
    def settled(self) -> bool:
        """Whether nothing is left to be measured."""
        return self._settled

    @property
    def learned(self) -> Learned:
        """What to keep for the next run."""
        with self._lock:
            return Learned(self._best, self._settled, self._too_large)

    def next_rows(self) -> int:
        """Rows for the next batch."""
        with self._lock:
            # The larger size only once the smaller was executed: a tail may have cut it short.
            if self._trial is None or not self._times[self._best]:
                return self._best
            rows = min(self._asked, key=lambda size: (self._asked[size], size))
            self._asked[rows] += rows
            return rows

    def executed(self, rows: int, seconds: float) -> None:
        """A batch of so many rows, padding included, took so long (on a CPU: CPU time)."""
        with self._lock:
            if self._trial is None or rows not in self._times:
                return
            self._times[rows].append(seconds)
            if all(len(self._windows(size)) >= self._wanted() for size in self._times):
                self._decide()

    def failed(self, rows: int) -> None:
        """So many rows did not fit into memory: from now on at most half of them.

        Raises BatchAssetsError when not even 256 rows fit.
        """
        with self._lock:
            if rows <= ROW_STEP:
                raise BatchAssetsError(
                    f"Not even {ROW_STEP} rows of this model fit into the device's memory. "
                    "Free memory there, or choose another device or a smaller model."
                )
            self._too_large = min(rows, self._too_large or rows)
            self._best = min(self._best, half_of(rows))
            self._trial, self._settled = None, True

    def _compare(self, times: int = 2) -> None:
        """Start to compare the best size with one some times as large, if that is allowed."""
        larger = times * self._best
        allowed = larger <= self._largest and larger < (self._too_large or larger + 1)
        self._trial = larger if allowed else None
        self._times = {self._best: [], larger: []} if allowed else {}
        self._asked = dict.fromkeys(self._times, 0)

    def _wanted(self) -> int:
        """Windows of each size; the first one warms up and does not count."""
        return 1 + max(WINDOWS, WINDOWED_ROWS // (self._trial or 1))

    def _windows(self, rows: int) -> list[float]:
        """Seconds of each window of as many rows as the larger size has."""
        times, batches = self._times[rows], (self._trial or rows) // rows
        whole = len(times) - len(times) % batches
        return [sum(times[start : start + batches]) for start in range(0, whole, batches)]

    def _decide(self) -> None:
        assert self._trial is not None
        usual = {size: statistics.median(self._windows(size)[1:]) for size in self._times}
        if usual[self._best] >= GAIN * usual[self._trial]:
            self._best = self._trial
            self._compare()
        elif self._trial == 2 * self._best:
            self._compare(times=4)
        else:
            self._trial = None
        self._settled = self._trial is None
