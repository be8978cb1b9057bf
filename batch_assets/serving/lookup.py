"""Predictions by key, and by what they are about: from memory, from Redis, from the store."""

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import islice
from typing import Any, Literal, Protocol

import pyarrow as pa

from batch_assets.serving.blocks import DayBlock, Row, Value
from batch_assets.serving.budget import Budget
from batch_assets.serving.hot import HotRows
from batch_assets.serving.stored import StoreUnreadable
from batch_assets.serving.view import View
from batch_assets.serving.views import Views
from batch_assets.serving.workload import Workload
from batch_assets.storage.tables import DAY

Source = Literal["memory", "redis", "store", "realtime"]
Before = datetime | tuple[datetime, Value]
"""Rows earlier than a moment; or, to go on behind a row, its moment and key."""
MOST_DAYS = 4
"""In which a key is looked for in Redis; more only as long as days are being loaded."""


@dataclass(frozen=True, slots=True)
class Found:
    """A prediction, with all columns of its table, and where it was found."""

    row: Row
    source: Source


class Shared(Protocol):
    """A tier that several servers share; see :mod:`batch_assets.serving.redis_tier`."""

    def get(self, asked: Mapping[tuple[date, str], Sequence[Value]]) -> dict[Value, Row]:
        """The rows that it has, of days and their keys."""

    def put(self, rows: Mapping[tuple[date, str], Sequence[Row]]) -> None:
        """Keep rows."""

    def follow(self, old: View, new: View) -> None:
        """Drop what an old view had, and a new one has not."""


class Served(Protocol):
    """What look-ups need of a served workload."""

    @property
    def workload(self) -> Workload: ...

    @property
    def budget(self) -> Budget: ...

    @property
    def views(self) -> Views: ...


class Lookups:
    """Finds predictions in a view.

    Args:
        served: the workload.
        shared: asked before the store, and given what was found there.
    """

    def __init__(self, served: Served, shared: Shared | None = None) -> None:
        self._workload = served.workload
        self._stored = served.views.stored
        self._shared = shared
        self.hot = HotRows(served.budget.hot)
        self.counts: Counter[str] = Counter()
        self._counting = threading.Lock()
        served.views.listen(lambda old, new: self.hot.keep_only(new))
        if shared:
            served.views.listen(shared.follow)

    def in_memory(self, view: View, key: Value) -> Found | None:
        """A prediction that is in memory; takes microseconds."""
        at = view.index.find(key)
        if at is not None:
            block, row = at
            self.counts["memory"] += 1
            return Found(block.row(row), "memory")
        hot = self.hot.get(view, key)
        if hot is not None:
            self.counts["hot"] += 1
            return Found(hot, "memory")
        return None

    def maybe(self, view: View, key: Value) -> bool:
        """False if there is surely no prediction; takes microseconds."""
        known = view.index.find(key) is not None or bool(view.days_to_ask(key))
        if not known:
            self.counts["not scored"] += 1
        return known

    def from_store(self, view: View, keys: Sequence[Value]) -> dict[Value, Found]:
        """Predictions of days outside memory, by key; blocks, so call it in a thread.

        Raises:
            ViewGone: the view's files were removed; ask again with the newest view, everything
                (see :meth:`batch_assets.serving.views.Views.answer`).
            StoreUnreadable: a file is damaged in which one of the keys may be.
        """
        kind = self._workload.predictions.columns[self._workload.key][0]
        left = {k: days for k in keys if (days := view.days_to_ask(k)) and _fits(k, kind)}
        found = self._from_shared(view, left)
        asked: dict[date, list[Value]] = {}
        for key, days in left.items():
            for day in days if key not in found else ():
                asked.setdefault(day, []).append(key)
        rows, failed = self._stored.find(view.predictions, view.vectors, asked)
        read: dict[tuple[date, str], list[Row]] = {}
        for row in sorted(rows, key=self._day):
            key, version = row[self._workload.key], view.days[row[DAY]]
            found[key] = Found(row, "store")
            self.hot.put(version, key, row)
            read.setdefault((row[DAY], version), []).append(row)
        if self._shared and read:
            self._shared.put(read)
        for day, error in failed.items():
            if any(key not in found for key in asked[day]):
                self._count(unreadable=1)
                raise error
        self._count(store=len(rows), missed=len(left) - len(found))
        return found

    def of_entity(
        self,
        view: View,
        entity: str,
        value: Value,
        limit: int,
        before: Before | None = None,
    ) -> list[Found]:
        """The newest predictions of an entity, the last first; those of one moment by key.

        Args:
            entity: column of the table.
            limit: most rows.
            before: where to go on.

        Raises:
            ViewGone, StoreUnreadable: as :meth:`from_store`.
        """
        return list(islice(self._of_entity(view, entity, value, before), limit))

    def _of_entity(
        self, view: View, entity: str, value: Value, before: Before | None
    ) -> Iterator[Found]:
        if not _fits(value, self._workload.predictions.columns[entity][0]):
            return
        moment = before[0] if isinstance(before, tuple) else before
        days = [d for d in view.newest_first if moment is None or d <= moment.date()]
        stored: Iterator[list[Row]] | None = None
        for at, day in enumerate(days):
            block = view.blocks.get(day)
            if block is not None:
                yield from self._in_block(block, entity, value, before)
                continue
            if stored is None:
                outside = [d for d in days[at:] if d not in view.blocks]
                stored = self._stored.of_entity(
                    view.predictions, view.vectors, outside, entity, value
                )
            for row in sorted(self._read(stored), key=self._order, reverse=True):
                if _is_before(self._order(row), before):
                    yield Found(row, "store")

    def _in_block(
        self, block: DayBlock, entity: str, value: Value, before: Before | None
    ) -> Iterator[Found]:
        time, key = self._workload.time, self._workload.key
        numbers = block.rows_of(entity, value)
        ordered = ((block.value(time, n), block.value(key, n), n) for n in numbers)
        for moment, of_row, number in sorted(ordered, reverse=True):
            if _is_before((moment, of_row), before):
                yield Found(block.row(number), "memory")

    @staticmethod
    def _day(row: Row) -> Any:
        return row[DAY]

    def _order(self, row: Row) -> tuple[Any, Any]:
        return row[self._workload.time], row[self._workload.key]

    def _from_shared(self, view: View, left: Mapping[Value, Sequence[date]]) -> dict[Value, Found]:
        if self._shared is None:
            return {}
        asked: dict[tuple[date, str], list[Value]] = {}
        for key, days in left.items():
            for day in days[:MOST_DAYS]:
                asked.setdefault((day, view.days[day]), []).append(key)
        rows = self._shared.get(asked)
        for key, row in rows.items():
            self.hot.put(view.days[row[DAY]], key, row)
        self._count(redis=len(rows))
        return {key: Found(row, "redis") for key, row in rows.items()}

    def _read(self, stored: Iterator[list[Row]]) -> list[Row]:
        try:
            return next(stored)
        except StoreUnreadable:
            self._count(unreadable=1)
            raise

    def _count(self, **more: int) -> None:
        with self._counting:
            self.counts.update(more)


def _is_before(order: tuple[Any, Any], before: Before | None) -> bool:
    if before is None:
        return True
    return bool(order < before if isinstance(before, tuple) else order[0] < before)


def _fits(value: Value, kind: pa.DataType) -> bool:
    """Whether a column may have this value: not a number too large, nor half a character."""
    try:
        pa.scalar(value, kind)
    except (pa.ArrowException, OverflowError, ValueError, TypeError):
        return False
    return True
