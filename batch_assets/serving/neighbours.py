"""Nearest neighbours in what is in memory, in the store, and among what was scored in real time."""

import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Protocol

import numpy as np
import numpy.typing as npt

from batch_assets.serving.background import stand_back
from batch_assets.serving.blocks import Row, Value
from batch_assets.serving.budget import Budget
from batch_assets.serving.day_models import DayModels
from batch_assets.serving.lookup import Lookups
from batch_assets.serving.memory_index import Format
from batch_assets.serving.realtime_vectors import VECTOR, HasVectors, RealtimeRows
from batch_assets.serving.searches import (
    DISTANCE_SHOWN,
    Part,
    Places,
    Question,
    in_memory,
    in_realtime,
    in_store,
    reading,
)
from batch_assets.serving.vector_memory import MODEL, Held, VectorMemory
from batch_assets.serving.view import View
from batch_assets.serving.views import Views
from batch_assets.serving.workload import Workload
from batch_assets.storage.vectors import Filter, VectorStoreError
from batch_assets.storage.vectors.filters import Equals, filter_sql
from batch_assets.storage.vectors.scope import Days
from batch_assets.storage.vectors.search import MAX_K, query_vector

logger = logging.getLogger(__name__)
AGAIN_SECONDS = 10.0


class UnknownKey(VectorStoreError):
    """There is no vector of this key, so that nothing can be searched around it."""


class HasFormat(Protocol):
    """The one setting that a search reads."""

    @property
    def serving_vectors(self) -> Format: ...


class Served(Protocol):
    """What a search needs of a served workload."""

    @property
    def workload(self) -> Workload: ...
    @property
    def settings(self) -> HasFormat: ...
    @property
    def budget(self) -> Budget: ...
    @property
    def views(self) -> Views: ...
    @property
    def lookups(self) -> Lookups: ...
    @property
    def realtime(self) -> HasVectors | None: ...


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Args:
        rows: nearest first: the columns that predictions and vectors share, ``distance`` (of the
            table's metric; squared for l2) and ``source`` (memory, store or realtime).
        exact: every row was compared, by its vector as the model gave it.
        index_coverage: share of the batch's rows in range that an index covers, in memory or in
            the store; the others are compared one by one.
        in_memory_days: days that were searched in memory.
        source: the places searched, joined by a plus.
        model_version: whose vectors were compared.
        other_model_days: days in range that were left out: another model scored them, or the
            store has no vectors of their scores (for moments, while a day is published).
    """

    rows: list[Row]
    exact: bool
    index_coverage: float
    in_memory_days: int
    source: str
    model_version: str | None
    other_model_days: int


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
        spec = workload.vectors
        self._served, self._spec = served, spec
        self.memory = VectorMemory(spec, served.settings.serving_vectors, served.budget.vectors)
        self._columns = [n for n in workload.predictions.columns if n in spec.schema.names]
        self._entities = frozenset(workload.entities.values())
        self._models = DayModels()
        self._usual: tuple[View | None, Held | None, str | None, Places | None] = (None,) * 4
        self._realtime: RealtimeRows | None = None
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
            ViewGone, StoreUnreadable: the store's files are gone or damaged.
        """
        filters = tuple(filters)
        self._check(filters, k)
        if (vector is None) == (key is None):
            raise VectorStoreError("A search needs either a vector or a key; give one of the two.")
        if key is not None:
            vector, model = self._own_vector(view, key)
        else:
            model = model or view.model_version or self._models.newest(view)
        query = query_vector(self._spec, vector)
        return self._search(
            view,
            Question(self._spec, self._columns, query, key, model, k, days, filters, exact),
        )

    def _check(self, filters: tuple[Filter, ...], k: int) -> None:
        if not 1 <= k <= MAX_K:
            raise VectorStoreError(f"A search for {k} neighbours: ask for 1 to {MAX_K}.")
        filter_sql(self._spec, filters)
        for one in filters:
            if one.column not in self._columns:
                raise VectorStoreError(
                    f"Predictions have no column {one.column!r}. "
                    f"Filter by one of: {', '.join(self._columns)}."
                )

    def _search(self, view: View, asked: Question) -> SearchResult:
        places = self._places(view, asked)
        parts: dict[str, Part] = {}
        if places.ours:
            parts["memory"] = in_memory(asked, places, self._entities)
        if places.rest and view.vectors is not None:
            parts["store"] = in_store(asked, view.vectors, places)
        if (now := self._realtime_rows()) and now.rows:
            parts["realtime"] = in_realtime(asked, now, lambda one: self._has_batch(view, one))
        rows = [row for part in parts.values() for row in part.rows]
        searched = sum(part.searched for part in parts.values())
        indexed = sum(part.indexed for part in parts.values())
        return SearchResult(
            rows=sorted(rows, key=self._order)[: asked.k],
            exact=all(part.exact for part in parts.values()),
            index_coverage=indexed / searched if searched else 1.0,
            in_memory_days=len(places.ours),
            source="+".join(parts) or "memory",
            model_version=asked.model,
            other_model_days=places.days - len(places.ours) - len(places.rest),
        )

    def _places(self, view: View, asked: Question) -> Places:
        """Where to look; remembered for the most frequent question, which is about all days."""
        memory = self.memory.held
        usual = asked.days is None and not asked.exact
        known_view, known_memory, model, known = self._usual
        same = known_view is view and known_memory is memory and model == asked.model
        if usual and same and known:
            return known
        inside = [day for day in view.days if asked.covers(day)]
        usable = not asked.exact or self.memory.format == "fp32"
        held = memory.of(view) if usable else {}
        ours = [held[day] for day in inside if day in held and held[day].model == asked.model]
        rest = {
            day: view.days[day]
            for day in inside
            if day not in held and self._models.of(view, day) == asked.model
        }
        places = Places(len(inside), ours, rest, memory.indexes(ours))
        if usual:
            self._usual = view, memory, asked.model, places
        return places

    def _own_vector(self, view: View, key: Value) -> tuple[npt.NDArray[np.float32], str | None]:
        """The vector of a key, and whose it is."""
        at = view.index.find(key)
        if at is not None:
            block, row = at
            held = self.memory.held.of(view).get(block.day)
            if held is not None and self.memory.format in ("fp32", "fp16"):
                return held.segment.vectors(np.array([row]))[0], held.model
        found = self._stored_vector(view, key, [at[0].day] if at else view.days_to_ask(key))
        if found is None and (now := self._realtime_rows()):
            own = now.find(self._spec.key, key)
            found = (own[VECTOR], own[MODEL]) if own else None
        if found is None:
            raise UnknownKey(
                f"There is no vector of {self._spec.key} {key!r}: it was never scored, or its day "
                "is being scored again just now. Search around another one, or by a vector."
            )
        return found

    def _realtime_rows(self) -> RealtimeRows | None:
        """What was scored in real time; the same object as long as no row comes or goes."""
        if self._served.realtime is None:
            return None
        table, known = self._served.realtime.vectors(), self._realtime
        if known is None or known.table is not table:
            known = self._realtime = RealtimeRows(table)
        return known

    def _stored_vector(
        self, view: View, key: Value, days: Iterable[date]
    ) -> tuple[npt.NDArray[np.float32], str] | None:
        """What the store has, of the versions that the view names."""
        where = filter_sql(self._spec, [Equals(self._spec.key, key)])
        for day in days:
            if view.vectors is not None and view.vectors.holds(day, view.days[day]):
                with reading(self._spec):
                    found = view.vectors.rows_of([day], [self._spec.vector, MODEL], where)
                if found.num_rows:
                    vector = found[self._spec.vector][0].values.to_numpy(zero_copy_only=False)
                    return vector.astype(np.float32), found[MODEL][0].as_py()
        return None

    def _has_batch(self, view: View, key: Value) -> bool:
        """Whether a batch has scored a key."""
        if view.index.find(key) is not None:
            return True
        return bool(view.days_to_ask(key) and self._served.lookups.from_store(view, [key]))

    def _order(self, row: Row) -> tuple[float, Value]:
        return row[DISTANCE_SHOWN], row[self._spec.key]

    def _run(self) -> None:
        """Follow the views."""
        stand_back()
        while not self._stop.is_set():
            self._changed.wait()
            self._changed.clear()
            try:
                self.follow(self._served.views.current)
            except Exception as error:
                name = self._served.workload.name
                logger.warning("vectors of %s are not read into memory: %s", name, error)
                self._changed.set()
                self._stop.wait(AGAIN_SECONDS)
