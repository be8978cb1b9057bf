"""What racing processes do in the tests; spawned processes import this module."""

from datetime import date
from multiprocessing.synchronize import Barrier
from typing import Any

from batch_assets.storage.vectors import VectorStore
from batch_assets_tests.storage.vectors.samples import DOCUMENTS, in_batches, rows

RACERS = 4
_start: Barrier


def line_up(barrier: Barrier) -> None:
    """Keep the barrier at which the processes of one pool wait for each other."""
    global _start
    _start = barrier


def create(uri: str, day: date, count: int) -> None:
    """Create the table at the same moment as the others, and at once write a day of one's own."""
    store = VectorStore(uri)
    batch = rows(day, count, version=uri)
    _start.wait(timeout=120)
    store.ensure(DOCUMENTS)
    store.replace_day(DOCUMENTS, day, [batch])


def write(uri: str, days: list[date], version: str, count: int) -> list[int]:
    """Write each day, at the same moment as the others; gives the versions committed."""
    store = VectorStore(uri)
    drawn: list[Any] = [rows(day, count, version=version) for day in days]
    _start.wait(timeout=120)
    return [
        store.replace_day(DOCUMENTS, day, in_batches(batch, 50)).version
        for day, batch in zip(days, drawn, strict=True)
    ]


def tidy(uri: str, times: int) -> list[int]:
    """Optimise again and again, at the same moment as the others; gives the row counts."""
    store = VectorStore(uri)
    _start.wait(timeout=120)
    counts = []
    for _ in range(times):
        store.optimise(DOCUMENTS, index_above=100)
        counts.append(store.count(DOCUMENTS))
    return counts
