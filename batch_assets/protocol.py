"""The moments of scoring a day between which a process may be killed.

The way of a day, in this order, the middle three for each of its chunks:

    day locked -> attempt noted -> (chunk begun -> files written -> chunk recorded)
    -> vectors published -> files in place -> predictions published -> ledger written -> swept

Whatever moment is the last that a process passed, the next run ends with the same tables as if
nothing had happened. Tests kill a process at each of them; that is what ``watchers`` is for.
"""

from collections.abc import Callable
from enum import StrEnum


class Moment(StrEnum):
    """What has just been done when :func:`passed` is called; in the order in which it happens."""

    DAY_LOCKED = "day locked"
    ATTEMPT_NOTED = "attempt noted"
    CHUNK_BEGUN = "chunk begun"
    FILES_WRITTEN = "files of the chunk written"
    CHUNK_RECORDED = "chunk recorded"
    VECTORS_PUBLISHED = "vectors published"
    FILES_IN_PLACE = "data files in place"
    PREDICTIONS_PUBLISHED = "predictions published"
    LEDGER_WRITTEN = "ledger written"
    SWEPT = "chunks swept"


watchers: list[Callable[[Moment], None]] = []


def passed(moment: Moment) -> None:
    """Say that a moment has come."""
    for watcher in watchers:
        watcher(moment)
