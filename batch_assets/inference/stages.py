"""Stages that overlap: each one runs in a thread of its own, a bounded queue ahead of the next.

Threads are enough, as all that takes time (Arrow, torch, Lance, zstd) lets go of Python's lock.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from typing import Generic, TypeVar

import pyarrow as pa
import torch

from batch_assets.inference.memory import peak_memory
from batch_assets.inference.stats import EngineStats

Item = TypeVar("Item")
Seconds = Callable[[float], None]


def ahead(
    source: Iterable[Item], *, size: Callable[[Item], int], limit: int, blocked: Seconds
) -> Generator[Item, None, None]:
    """The items of ``source``, which a thread goes through while the consumer does other work.

    At most ``limit`` bytes wait between the two (or one item, if that is larger), ``size`` says
    how many an item has. ``blocked`` is told the seconds that the thread waited for room. An
    exception of the source reaches the consumer with its own traceback. When the consumer ends,
    early or by an error, so does the thread, and a generator as source is closed in it: what it
    is doing right then is waited for.
    """
    queue: _Queue[Item] = _Queue(size, limit)
    thread = threading.Thread(
        target=_fill, args=(queue, source, blocked), name="batch_assets-stage", daemon=True
    )
    thread.start()
    try:
        yield from queue
    finally:
        queue.close()
        thread.join()


def timed(source: Iterable[Item], spent: Seconds) -> Generator[Item, None, None]:
    """The same items; ``spent`` is told the seconds that each took to come."""
    items = iter(source)
    try:
        while True:
            started = time.perf_counter()
            try:
                item = next(items)
            except StopIteration:
                return
            finally:
                spent(time.perf_counter() - started)
            yield item
    finally:
        _close(items)


def given_out(
    results: Generator[pa.RecordBatch, None, None], stats: EngineStats, device: torch.device
) -> Generator[pa.RecordBatch, None, None]:
    """The batches, counted and timed: what the consumer does with each is writing.

    Closes ``results`` at its end; only then are seconds and memory in ``stats`` complete.
    """
    began = time.perf_counter()
    with closing(results):
        try:
            for batch in results:
                stats.rows += batch.num_rows
                started = time.perf_counter()
                try:
                    yield batch
                finally:
                    stats.write_seconds += time.perf_counter() - started
        finally:
            stats.elapsed_seconds += time.perf_counter() - began
            stats.peak_memory_bytes = max(stats.peak_memory_bytes, peak_memory(device))


def _fill(queue: "_Queue[Item]", source: Iterable[Item], blocked: Seconds) -> None:
    try:
        items = iter(source)
        try:
            for item in items:
                started = time.perf_counter()
                taken = queue.put(item)
                blocked(time.perf_counter() - started)
                if not taken:
                    break
        finally:
            _close(items)
    except BaseException as error:
        queue.finish(error)
    else:
        queue.finish()


def _close(items: object) -> None:
    close = getattr(items, "close", None)
    if close is not None:
        close()


class _Queue(Generic[Item]):
    """Hands items from one thread to one other, bounded in bytes; either side can end it."""

    def __init__(self, size: Callable[[Item], int], limit: int) -> None:
        self._size = size
        self._limit = limit
        self._items: deque[tuple[Item, int]] = deque()
        self._bytes = 0
        self._ended = False
        self._closed = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    def put(self, item: Item) -> bool:
        """Wait for room and add the item; False if nobody wants it any more."""
        size = self._size(item)
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or not self._items or self._bytes + size <= self._limit
            )
            if self._closed:
                return False
            self._items.append((item, size))
            self._bytes += size
            self._changed.notify_all()
            return True

    def finish(self, error: BaseException | None = None) -> None:
        """No more items come; the error, if any, is raised after those that did."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def close(self) -> None:
        """No more items are wanted."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Item]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._ended)
                if not self._items:
                    break
                item, size = self._items.popleft()
                self._bytes -= size
                self._changed.notify_all()
            yield item
            del item
        if self._error is not None:
            raise self._error
