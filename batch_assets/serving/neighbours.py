"""Nearest neighbours in what is in memory, in the store, and among what was scored in real time."""

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batch_assets.serving.blocks import Value
from batch_assets.serving.budget import Budget
from batch_assets.serving.memory_index import Format
from batch_assets.serving.row_filters import matching
from batch_assets.serving.vector_memory import MODEL, Held, HeldDay, VectorMemory
from batch_assets.serving.view import View
from batch_assets.serving.views import Views
from batch_assets.serving.workload import Workload
from batch_assets.storage.vectors import Filter, VectorStoreError
from batch_assets.storage.vectors.day_rows import rows_of_day
from batch_assets.storage.vectors.filters import Equals, filter_sql
from batch_assets.storage.vectors.scope import Days
from batch_assets.storage.vectors.search import DISTANCE, MAX_K, query_vector, search

if TYPE_CHECKING:
    from batch_assets.storage.vectors.search import Snapshot

logger = logging.getLogger(__name__)
Row = dict[str, Any]
DISTANCE_SHOWN, SOURCE = "distance", "source"


class UnknownKey(VectorStoreError):
    """There is no vector of this key, so that nothing can be searched around it."""


class HasFormat(Protocol):
    """The one setting that a search reads."""

    @property
    def serving_vectors(self) -> Format: ...


class Served(Protocol):
    """What a search needs of a served workload."""

    realtime: Any

    @property
    def workload(self) -> Workload: ...
    @property
    def settings(self) -> HasFormat: ...
    @property
    def budget(self) -> Budget: ...
    @property
    def views(self) -> Views: ...


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Args:
        rows: nearest first: the columns that predictions and vectors share, ``distance`` (of the
            table's metric; squared for l2) and ``source``.
        exact: every row was compared, by its vector as the model gave it.
        index_coverage: share of the rows in range that an index covers, in memory or in the
            store; the others are compared one by one.
        in_memory_days: days that were searched in memory.
        source: memory, store and realtime, as far as they were searched, joined by a plus.
        model_version: whose vectors were compared.
        other_model_days: days in range that another model scored, which were left out.
    """

    rows: list[Row]
    exact: bool
    index_coverage: float
    in_memory_days: int
    source: str
    model_version: str | None
    other_model_days: int


@dataclass(frozen=True)
class _Part:
    """What one place found, and of how many rows."""

    rows: list[Row]
    exact: bool
    searched: int
    indexed: float


@dataclass(frozen=True)
class _Question:
    """A checked question."""

    vector: npt.NDArray[np.float32]
    key: Value | None
    model: str | None
    k: int
    days: Days | None
    filters: tuple[Filter, ...]
    exact: bool


class Neighbours:
    """Searches the views of one workload.

    The newest days' vectors are read into memory by a thread that follows the views; until a day
    is there, it is searched in the store. A day counts as in memory only while the view that is
    searched names the version that is there.

    Args:
        served: the workload; what it has of vectors is only read.
        background: start the thread; else :meth:`follow` says when to read.
    """

    def __init__(self, served: Served, background: bool = True) -> None:
        workload = served.workload
        self._served, self._workload, self._spec = served, workload, workload.vectors
        self.memory = VectorMemory(
            workload.vectors, served.settings.serving_vectors, served.budget.vectors
        )
        shared = [n for n in workload.predictions.columns if n in workload.vectors.schema.names]
        self._columns = shared
        self._entities = frozenset(workload.entities.values())
        self._models: dict[tuple[date, str], str | None] = {}
        self._changed, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        if background:
            served.views.listen(lambda old, new: self._changed.set())
            name = f"vectors of {workload.name}"
            self._thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self._changed.set()
        if self._thread:
            self._thread.join()

    def follow(self, view: View) -> None:
        """Read into memory what fits of a view; in one thread at a time."""
        self.memory.follow(view, lambda: not self._changed.is_set())

    def search(
        self,
        view: View,
        *,
        vector: npt.ArrayLike | None = None,
        key: Value | None = None,
        k: int = 10,
        days: Days | None = None,
        filters: Iterable[Filter] = (),
        exact: bool = False,
        model: str | None = None,
    ) -> SearchResult:
        """The k rows nearest to a vector, or to the vector of a key; blocks, for a thread.

        Args:
            view: what is searched.
            vector: float32 [dimensions]; or give ``key``, which is not among the rows found.
            k: number of neighbours, 1 to 10,000; so many come if there are so many.
            days: first and last day, both included; None leaves a side open.
            filters: `Equals`, `OneOf` and `Range` on columns of the result; all must hold.
            exact: compare with every row, by its vector as the model gave it.
            model: version that made ``vector``; by default the live one.

        Raises:
            UnknownKey: there is no vector of the key.
            VectorStoreError: a column, value or vector that cannot be used; says why.
        """
        filters = tuple(filters)
        filter_sql(self._spec, filters)
        if not 1 <= k <= MAX_K:
            raise VectorStoreError(f"A search for {k} neighbours: ask for 1 to {MAX_K}.")
        if (vector is None) == (key is None):
            raise VectorStoreError("A search needs either a vector or a key; give one of the two.")
        if key is not None:
            vector, model = self._own_vector(view, key)
        else:
            model = model or view.model_version or self._newest_model(view)
        query = query_vector(self._spec, vector)
        return self._search(view, _Question(query, key, model, k, days, filters, exact))

    def _search(self, view: View, asked: _Question) -> SearchResult:
        inside = {day: version for day, version in view.days.items() if _within(day, asked.days)}
        memory = self.memory.held
        held = self._held(memory.of(view), asked, inside)
        rest = {day: version for day, version in inside.items() if day not in held}
        ours = {d: v for d, v in rest.items() if self._model_of(view, d) == asked.model}
        ours_in_memory = [one for one in held.values() if one.model == asked.model]
        parts = {
            "memory": self._in_memory(memory, asked, ours_in_memory) if ours_in_memory else None,
            "store": self._in_store(view.vectors, asked, ours) if ours and view.vectors else None,
            "realtime": self._in_realtime(view, asked),
        }
        found = [part for part in parts.values() if part is not None]
        rows = sorted((row for part in found for row in part.rows), key=self._order)
        searched = sum(part.searched for part in found)
        indexed = sum(part.indexed for part in found)
        return SearchResult(
            rows=rows[: asked.k],
            exact=all(part.exact for part in found),
            index_coverage=indexed / searched if searched else 1.0,
            in_memory_days=len(ours_in_memory),
            source="+".join(name for name, part in parts.items() if part is not None),
            model_version=asked.model,
            other_model_days=len(inside) - len(ours_in_memory) - len(ours),
        )

    def _held(
        self, held: Mapping[date, HeldDay], asked: _Question, inside: Mapping[date, str]
    ) -> dict[date, HeldDay]:
        """The days that can be searched in memory as asked."""
        lacking = any(one.column not in self._columns for one in asked.filters)
        if lacking or (asked.exact and self.memory.format != "fp32"):
            return {}
        return {day: one for day, one in held.items() if day in inside}

    def _in_memory(self, memory: Held, asked: _Question, days: Sequence[HeldDay]) -> _Part:
        blocks = {one.segment: one.block for one in days}
        rows: list[Row] = []
        exact = True
        for index in memory.indexes(days):
            masks = None
            if asked.filters:
                masks = [
                    matching(blocks[segment], asked.filters, self._entities)
                    for segment in index.segments
                ]
            hits = index.search(asked.vector, asked.k + (asked.key is not None), masks, asked.exact)
            exact = exact and hits.exact
            found = zip(
                hits.distances.tolist(), hits.segments.tolist(), hits.rows.tolist(), strict=True
            )
            for distance, number, at in found:
                block = blocks[index.segments[number]]
                if block.value(self._spec.key, at) != asked.key:
                    row = {name: block.value(name, at) for name in self._columns}
                    rows.append({**row, DISTANCE_SHOWN: distance, SOURCE: "memory"})
        count = sum(one.block.rows for one in days)
        return _Part(rows, exact, count, count)

    def _in_store(self, vectors: "Snapshot", asked: _Question, days: Mapping[date, str]) -> _Part:
        found = search(
            vectors,
            vector=asked.vector,
            key=None,
            k=min(MAX_K, asked.k + (asked.key is not None)),
            days=asked.days,
            filters=asked.filters,
            exact=asked.exact,
            valid=days,
            columns=self._columns,
            nprobes=None,
        )
        seen = vectors.scope(asked.days, days)
        rows = []
        for row in found.to_pylist():
            distance = row.pop(DISTANCE)
            if row[self._spec.key] != asked.key:
                rows.append({**row, DISTANCE_SHOWN: distance, SOURCE: "store"})
        covered = float(found.schema.metadata[b"index_coverage"])
        exact = found.schema.metadata[b"exact"] == b"true"
        return _Part(rows, exact, seen.rows, covered * seen.rows)

    def _in_realtime(self, view: View, asked: _Question) -> _Part | None:
        return None

    def _own_vector(self, view: View, key: Value) -> tuple[npt.NDArray[np.float32], str | None]:
        """The vector of a key, and whose it is."""
        at = view.index.find(key)
        if at is not None:
            block, row = at
            held = self.memory.held.of(view).get(block.day)
            if held is not None and self.memory.format in ("fp32", "fp16"):
                return held.segment.vectors(np.array([row]))[0], held.model
            days = [block.day]
        else:
            days = view.days_to_ask(key)
        if view.vectors is not None:
            wanted = filter_sql(self._spec, [Equals(self._spec.key, key)])
            asked = {day: view.days[day] for day in days if view.vectors.holds(day, view.days[day])}
            for day in asked:
                found = view.vectors.rows_of([day], [self._spec.vector, MODEL], wanted)
                if found.num_rows:
                    return _first(found[self._spec.vector]), found[MODEL][0].as_py()
        raise UnknownKey(
            f"There is no vector of {self._spec.key} {key!r}: it was never scored, or its day is "
            "just being scored again. Search around another one, or by a vector."
        )

    def _newest_model(self, view: View) -> str | None:
        """Whose scores the newest day's are."""
        known = (self._model_of(view, day) for day in view.newest_first)
        return next((model for model in known if model is not None), None)

    def _model_of(self, view: View, day: date) -> str | None:
        """Whose scores a day's are; None while vectors and predictions differ."""
        block = view.blocks.get(day)
        if block is not None and block.rows:
            return str(block.value(MODEL, 0))
        at = day, view.days[day]
        if at not in self._models:
            held = rows_of_day(view.vectors, *at) if view.vectors else None
            if held is None:
                return None
            self._models[at] = str(held.first(MODEL))
        return self._models[at]

    def _order(self, row: Row) -> tuple[Any, ...]:
        return row[DISTANCE_SHOWN], row[self._spec.key]

    def _run(self) -> None:
        """Follow the views."""
        while not self._stop.is_set():
            self._changed.wait()
            self._changed.clear()
            try:
                self.follow(self._served.views.current)
            except Exception as error:
                logger.warning("vectors of %s: %s", self._workload.name, error)
                self._stop.wait(1.0)


def _first(column: pa.ChunkedArray) -> npt.NDArray[np.float32]:
    """The first vector of a column."""
    return np.asarray(column[0].values.to_numpy(zero_copy_only=False), np.float32)


def _within(day: date, days: Days | None) -> bool:
    first, last = days or (None, None)
    return (first is None or day >= first) and (last is None or day <= last)
