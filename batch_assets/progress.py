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
