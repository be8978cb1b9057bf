"""Who watches progress: nobody, or a progress bar of the command line in the same process."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date

Watcher = Callable[[str, date], None]
_watchers: list[Watcher] = []


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Tell ``watcher(what, day)`` of each day that is done."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


def report(what: str, day: date) -> None:
    """A day of something is done."""
    for watcher in _watchers:
        watcher(what, day)


_measured: dict[str, tuple[int, float]] = {}


def measured(what: str, rows: int, seconds: float) -> None:
    """Add rows, and the seconds that they took, to what this process did."""
    before = _measured.get(what, (0, 0.0))
    _measured[what] = (before[0] + rows, before[1] + seconds)


def rows_per_second(what: str) -> float | None:
    """Rate over all that was measured in this process; None if nothing was."""
    rows, seconds = _measured.get(what, (0, 0.0))
    return rows / seconds if rows and seconds else None
