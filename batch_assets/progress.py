"""Who watches progress: nobody, or a progress bar of the command line in the same process."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import Protocol


class Watcher(Protocol):
    """Shows how far things are."""

    def advance(self, what: str, day: date) -> None:
        """One more day of something is done."""

    def advance_to(self, what: str, done: int, of: int) -> None:
        """So many parts of something are done."""


_watchers: list[Watcher] = []


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Tell the watcher of all that is done in this process."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


def report(what: str, day: date) -> None:
    """A day of something is done."""
    for watcher in _watchers:
        watcher.advance(what, day)


def report_share(what: str, done: int, of: int) -> None:
    """So many parts of something are done."""
    for watcher in _watchers:
        watcher.advance_to(what, done, of)


_measured: dict[str, tuple[int, float]] = {}


def measured(what: str, rows: int, seconds: float) -> None:
    """Add rows, and the seconds that they took, to what this process did."""
    before = _measured.get(what, (0, 0.0))
    _measured[what] = (before[0] + rows, before[1] + seconds)


def rows_per_second(what: str) -> float | None:
    """Rate over all that was measured in this process; None if nothing was."""
    rows, seconds = _measured.get(what, (0, 0.0))
    return rows / seconds if rows and seconds else None
