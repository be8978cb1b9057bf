"""The three places that a search looks into: memory, the store, and rows scored in real time."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from batch_assets.serving.blocks import DayBlock, Row, Value
from batch_assets.serving.memory_index import MemoryIndex, Segment
from batch_assets.serving.realtime_vectors import RealtimeRows
from batch_assets.serving.row_filters import matching
from batch_assets.serving.stored import StoreUnreadable, ViewGone
from batch_assets.serving.vector_memory import MODEL, HeldDay
from batch_assets.storage.tables import DAY
from batch_assets.storage.vectors import Equals, Filter, Range, VectorTable
from batch_assets.storage.vectors.scope import Days
from batch_assets.storage.vectors.search import DISTANCE, EXACT_BELOW, MAX_K, search

if TYPE_CHECKING:
    from batch_assets.storage.vectors.search import Snapshot

DISTANCE_SHOWN, SOURCE = "distance", "source"


@dataclass(frozen=True)
class Question:
    """A checked question.

    Args:
        spec: the vector table.
        columns: what a row found has, besides its distance and source.
        key: whose neighbours are asked for; not to be found itself.
        model: whose vectors are compared.
    """

    spec: VectorTable
    columns: Sequence[str]
    vector: npt.NDArray[np.float32]
    key: Value | None
    model: str | None
    k: int
    days: Days | None
    filters: tuple[Filter, ...]
    exact: bool

    @property
    def most(self) -> int:
        """How many rows to look for, the key's own among them."""
        return min(MAX_K, self.k + (self.key is not None))

    def covers(self, day: date) -> bool:
        """Whether a day lies in the range."""
        first, last = self.days or (None, None)
        return (first is None or day >= first) and (last is None or day <= last)

    def found(self, row: Mapping[str, Any], distance: float, source: str) -> Row:
        """A row as it is given back."""
        shown = {name: row[name] for name in self.columns}
        return {**shown, DISTANCE_SHOWN: distance, SOURCE: source}


@dataclass(frozen=True)
class Places:
    """Where the days in range are.

    Args:
        days: how many there are.
        ours: those in memory.
        rest: those to be searched in the store, and their versions.
        indexes: over those in memory.
    """

    days: int
    ours: Sequence[HeldDay]
    rest: Mapping[date, str]
    indexes: Sequence[MemoryIndex]

    @cached_property
    def blocks(self) -> dict[Segment, DayBlock]:
        """The rows of those in memory."""
        return {one.segment: one.block for one in self.ours}

    @cached_property
    def versions(self) -> dict[date, str]:
        """The versions of those in memory."""
        return {one.block.day: one.segment.version for one in self.ours}

    @cached_property
    def rows(self) -> int:
        """How many rows are in memory."""
        return sum(block.rows for block in self.blocks.values())


@dataclass(frozen=True)
class Part:
    """What one place found.

    Args:
        exact: nothing was missed, and distances are those of the vectors as the model gave them.
        searched: rows of the place that are in range, before filters.
        indexed: how many of them an index covers.
    """

    rows: list[Row]
    exact: bool
    searched: int
    indexed: float


def in_memory(asked: Question, places: Places, entities: Collection[str]) -> Part:
    """The nearest of the days in memory."""
    blocks = places.blocks
    rows: list[Row] = []
    exact = True
    for index in places.indexes:
        masks = None
        if asked.filters:
            masks = [matching(blocks[one], asked.filters, entities) for one in index.segments]
        hits = index.search(asked.vector, asked.most, masks, asked.exact)
        exact = exact and hits.exact
        for distance, number, at in hits.each():
            block = blocks[index.segments[number]]
            if asked.key is None or block.value(asked.spec.key, at) != asked.key:
                row = {name: block.value(name, at) for name in asked.columns}
                rows.append(asked.found(row, distance, "memory"))
    return Part(rows, exact, places.rows, places.rows)


def in_store(asked: Question, vectors: "Snapshot", places: Places) -> Part:
    """The nearest of the days that are not in memory, of the versions named, in the vector store.

    Those in memory are looked through, too, if there are many rows, and what is found there is
    dropped: it takes Lance longer to leave them out.
    """
    days = places.rest
    seen = vectors.scope(asked.days, days).rows
    valid = {**places.versions, **days} if seen > EXACT_BELOW and not asked.exact else days
    with reading(asked.spec):
        found = search(
            vectors,
            vector=asked.vector,
            key=None,
            k=asked.most,
            days=asked.days,
            filters=asked.filters,
            exact=asked.exact,
            valid=valid,
            columns=asked.columns,
            nprobes=None,
        )
    rows = [
        asked.found(row, row[DISTANCE], "store")
        for row in found.to_pylist()
        if row[asked.spec.key] != asked.key and row[DAY] in days
    ]
    said = found.schema.metadata
    return Part(rows, said[b"exact"] == b"true", seen, float(said[b"index_coverage"]) * seen)


@contextmanager
def reading(spec: VectorTable) -> Iterator[None]:
    """Around what reads the vector store.

    Raises:
        ViewGone: files of an old view were removed.
        StoreUnreadable: files are damaged, or cannot be reached.
    """
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        gone = "not found" in str(error).lower()
        kind = ViewGone if gone else StoreUnreadable
        raise kind(f"vector table {spec.name} cannot be searched: {error}") from error


def in_realtime(asked: Question, now: RealtimeRows, has_batch: Callable[[Value], bool]) -> Part:
    """The nearest of those scored in real time that no batch has scored."""
    days = Range(DAY, *asked.days) if asked.days else Range(DAY)
    mask = matching(now, [*asked.filters, Equals(MODEL, asked.model or ""), days])
    near = now.nearest(asked.vector, asked.spec.metric, mask)
    key = asked.spec.key
    fresh = ((f, row) for f, row in near if row[key] != asked.key and not has_batch(row[key]))
    rows = [asked.found(row, far, "realtime") for far, row in islice(fresh, asked.k)]
    return Part(rows, True, 0, 0)
