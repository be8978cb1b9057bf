"""Which days' vectors are in memory: the newest that fit, of the versions that the view names."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batch_assets.errors import BatchAssetsError
from batch_assets.serving.blocks import DayBlock
from batch_assets.serving.hashes import hashes_of
from batch_assets.serving.memory_index import (
    Codebook,
    Format,
    MemoryIndex,
    Segment,
    Vectors,
    day_bytes,
    sample_rows,
)
from batch_assets.serving.view import View
from batch_assets.storage.memory import release_memory
from batch_assets.storage.vectors import VectorTable
from batch_assets.storage.vectors.day_rows import DayRows, rows_of_day

if TYPE_CHECKING:
    pass

logger = logging.getLogger(__name__)
MODEL = "model_version"
BATCH_ROWS = 65_536
SAMPLED_DAYS = 8
GROWN = 4
"""A codebook is made anew for so many times the rows it was made for."""
REMEMBERED = 16


@dataclass(frozen=True)
class HeldDay:
    """A day's vectors, and the block whose rows they are, in the same order."""

    segment: Segment
    block: DayBlock
    model: str

    @property
    def bytes(self) -> int:
        return self.segment.bytes


@dataclass(frozen=True)
class Held:
    """The days in memory at one moment; never changes."""

    days: Mapping[date, HeldDay] = field(default_factory=dict)
    _of: dict[int, dict[date, HeldDay]] = field(default_factory=dict)
    _indexes: dict[tuple[int, ...], MemoryIndex] = field(default_factory=dict)

    def of(self, view: View) -> Mapping[date, HeldDay]:
        """Those that are what the view has; a day that it has anew is not among them."""
        known = self._of.get(view.number)
        if known is None:
            versions, blocks = view.days, view.blocks
            known = {
                day: held
                for day, held in self.days.items()
                if versions.get(day) == held.segment.version and blocks.get(day) is held.block
            }
            if len(self._of) >= REMEMBERED:
                self._of.clear()
            self._of[view.number] = known
        return known

    def indexes(self, days: Sequence[HeldDay]) -> list[MemoryIndex]:
        """Indexes over some of these days, one a codebook."""
        books: dict[int, list[Segment]] = {}
        for held in days:
            books.setdefault(id(held.segment.codebook), []).append(held.segment)
        return [self._index(segments) for segments in books.values()]

    def _index(self, segments: Sequence[Segment]) -> MemoryIndex:
        """The index, made before or now; of two threads that make it, one's is remembered."""
        at = tuple(one.first for one in segments)
        known = self._indexes.get(at)
        if known is None:
            if len(self._indexes) >= REMEMBERED:
                self._indexes.clear()
            known = self._indexes[at] = MemoryIndex(segments)
        return known


class VectorMemory:
    """Follows the views day by day; one thread calls :meth:`follow`, any number read ``held``.

    Args:
        spec: the vector table.
        format: how vectors are held.
        most_bytes: bound of all days together.
    """

    def __init__(self, spec: VectorTable, format: Format, most_bytes: int) -> None:
        self.held = Held()
        self.complete = False
        self.format = format
        self._spec, self._most = spec, most_bytes
        self._codebooks: dict[str, Codebook] = {}
        self._refused: set[tuple[date, str]] = set()

    @property
    def bytes(self) -> int:
        """What the days take."""
        return sum(one.bytes for one in self.held.days.values())

    def follow(self, view: View, go_on: Callable[[], bool]) -> None:
        """Hold what fits of a view, the newest days first; returns early if ``go_on`` says no."""
        import faiss

        faiss.omp_set_num_threads(1)  # of this thread: the other cores are for who asks
        planned = self._planned(view)
        kept = self.held.of(view)
        self._hold({day: kept[day] for day in planned if day in kept})
        models = {model_of(block) for block in planned.values()}
        self._codebooks = {m: book for m, book in self._codebooks.items() if m in models}
        rows, built = self._expected(view), False
        for day, block in planned.items():
            if not go_on():
                return
            held = self.held.days.get(day)
            model = model_of(block)
            book = self._codebooks.get(model)
            if book is None or rows > GROWN * book.rows:
                book = self._train(view, planned, model, rows)
            if book is None or (held and held.segment.codebook is book):
                continue
            made = self._encode(view, day, block, book)
            if made is not None:
                self._hold({**self.held.days, day: HeldDay(made, block, model)})
                built = True
        if built:
            release_memory()  # what lists left behind while they grew
        self.complete = True

    def _hold(self, days: Mapping[date, HeldDay]) -> None:
        if days != self.held.days:
            self.held = Held(days)

    def _planned(self, view: View) -> dict[date, DayBlock]:
        """The days that fit, the newest first."""
        room, planned = self._most, dict[date, DayBlock]()
        total = self._expected(view)
        for day in view.newest_first:
            block = view.blocks.get(day)
            if block is None or not block.rows or (day, view.days[day]) in self._refused:
                continue
            room -= day_bytes(self.format, self._spec.dimensions, block.rows, total)
            if room < 0:
                break
            planned[day] = block
        return planned

    def _expected(self, view: View) -> int:
        """How many rows are in memory once all days are read that fit."""
        row = day_bytes(self.format, self._spec.dimensions, 1_000, 1) / 1_000
        return max(1, min(view.predictions.rows(), int(self._most / row)))

    def _train(
        self, view: View, planned: Mapping[date, DayBlock], model: str, rows: int
    ) -> Codebook | None:
        """A codebook from a sample of the newest and older days; None if none can be read."""
        days = [day for day, block in planned.items() if model_of(block) == model]
        days = days[:: max(1, len(days) // SAMPLED_DAYS)]
        wanted = sample_rows(rows)
        share = min(1.0, wanted / sum(planned[day].rows for day in days))
        samples = []
        for day in days:
            found = self._rows(view, day)
            if found is not None:
                count = sum(found.counts)
                picked = np.random.default_rng(0).permutation(count)[: max(1, int(count * share))]
                taken = found.take(np.sort(picked), [self._spec.vector])
                samples.append(self._matrix(taken[self._spec.vector].combine_chunks()))
        if not samples:
            return None
        book = Codebook.train(np.concatenate(samples), rows, self.format, self._spec.metric)
        self._codebooks[model] = book
        return book

    def _encode(self, view: View, day: date, block: DayBlock, book: Codebook) -> Segment | None:
        """The day's vectors in the order of its block; None if the store has other rows."""
        found = self._rows(view, day)
        if found is None:
            return None
        others = [one.segment for at, one in self.held.days.items() if at != day]
        first = _gap(others, block.rows)
        try:
            parts = self._parts(found, block)
            return Segment(book, day, view.days[day], block.rows, first, parts)
        except BatchAssetsError as error:
            logger.warning("%s: the vectors stay in the store: %s", day, error)
            self._refused.add((day, view.days[day]))
            return None

    def _rows(self, view: View, day: date) -> DayRows | None:
        return rows_of_day(view.vectors, day, view.days[day]) if view.vectors else None

    def _parts(
        self, found: DayRows, block: DayBlock
    ) -> Iterator[tuple[npt.NDArray[np.int64], Vectors]]:
        """Numbers of the block's rows, and their vectors."""
        key, vector = self._spec.key, self._spec.vector
        hashes = block.hashes(key)
        order = np.argsort(hashes, kind="stable")
        hashes = hashes[order]
        for fragment in found.fragments:
            for batch in fragment.to_batches(columns=[key, vector], batch_size=BATCH_ROWS):
                at = np.minimum(hashes.searchsorted(hashes_of(batch[key])), len(hashes) - 1)
                numbers = order[at].astype(np.int64)
                if not block.column(key).take(pa.array(numbers)).equals(batch[key]):
                    raise BatchAssetsError("its predictions have other keys")
                yield numbers, self._matrix(batch[vector])

    def _matrix(self, column: pa.Array) -> Vectors:
        """A column of vectors as float32 [n, dimensions]."""
        numbers = column.flatten().to_numpy(zero_copy_only=False)
        return numbers.astype(np.float32, copy=False).reshape(-1, self._spec.dimensions)


def model_of(block: DayBlock) -> str:
    """Whose scores a day's are: those of one model, as all were made under one scoring key."""
    return str(block.value(MODEL, 0))


def _gap(segments: Sequence[Segment], rows: int) -> int:
    """The first number, a multiple of 8, from which so many are free."""
    first = 0
    for one in sorted(segments, key=lambda one: one.first):
        if one.first - first >= rows:
            break
        first = (one.first + one.rows + 7) // 8 * 8
    return first
