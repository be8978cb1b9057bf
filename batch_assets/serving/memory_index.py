"""Vectors of many days in memory: each day encoded once, any set of days searched as one index.

A day becomes a :class:`Segment`: the inverted lists of a FAISS IVF index over its own rows, which
nothing changes any more. A :class:`MemoryIndex` stacks the lists of some days, without a copy:
it costs microseconds to make, so a replaced day means another stack, and nobody who searches ever
sees a list that changes. All segments of a stack share a :class:`Codebook`.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from batch_assets.errors import BatchAssetsError
from batch_assets.storage.vectors.maintenance import sub_vectors

Format = Literal["fp32", "fp16", "sq8", "pq"]
Vectors = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

FEW_ROWS = 2_000
"""Matching rows up to which each is compared by itself, without the lists."""

SCANNED_ROWS = 20_000
"""Matching rows up to which all lists are searched: nothing is missed, within 2 ms."""

PROBES = 6
"""Lists looked into for ten neighbours among all rows: recall@10 above .99, of a hundred thousand
rows as of five million."""

SAMPLE_A_LIST = 48
PQ_LEAST = 16
ID_BYTES = 16
"""Beside the code of a row: its number in the list, and where the list has it."""

LIST_BYTES = 160
"""What an inverted list takes for itself, without its centre, of which each day has a copy."""


@dataclass(frozen=True)
class Codebook:
    """How the vectors of one model are encoded, and in which lists they lie.

    Args:
        format: fp32 keeps them as they are, fp16 as half-precision differences from their list's
            centre, sq8 as a byte a number, pq as product-quantised codes of a byte for four.
        metric: of the vector table: l2, cosine or dot.
        rows: how many rows the number of lists was chosen for.
    """

    format: Format
    metric: str
    rows: int
    _index: Any

    @classmethod
    def train(cls, sample: Vectors, rows: int, format: Format, metric: str) -> "Codebook":
        """Learn the lists and the codes from a sample, float32 [n, dimensions]."""
        import faiss

        faiss.omp_set_num_threads(1)  # of this thread: the other cores are for who asks
        dimensions = sample.shape[1]
        lists = max(1, min(lists_for(rows), len(sample) // 16))
        kind = faiss.METRIC_INNER_PRODUCT if metric == "dot" else faiss.METRIC_L2
        index = faiss.index_factory(dimensions, f"IVF{lists},{_code(format, sample)}", kind)
        index.cp.min_points_per_centroid = 1
        if isinstance(index, faiss.IndexIVFPQ):
            index.pq.cp.min_points_per_centroid = 1
            index.pq.cp.niter = 10
            index.use_precomputed_table = -1  # a table a day would take more than its rows
            sample = np.resize(sample, (max(PQ_LEAST, len(sample)), dimensions))
        index.train(_prepared(sample, metric))
        return cls(format, metric, rows, index)

    @property
    def lists(self) -> int:
        return int(self._index.nlist)

    @property
    def row_bytes(self) -> int:
        """What a row takes in memory."""
        return int(self._index.code_size) + ID_BYTES

    @property
    def exact(self) -> bool:
        """Whether distances are those of the vectors as they were given."""
        return self.format == "fp32"

    def empty(self) -> Any:
        """An index without rows, to be filled."""
        import faiss

        return faiss.clone_index(self._index)

    def distances(self, found: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """What the vector store calls the distance: squared for l2, one minus the product."""
        if self.metric == "l2":
            return np.maximum(found, 0)
        scaled = found / 2 if self.metric == "cosine" else 1 - found
        return scaled.astype(np.float32)


class Segment:
    """One day's vectors, encoded; read by any number of threads.

    Args:
        codebook: how to encode.
        day: which day.
        version: the scoring key of its rows.
        rows: how many.
        first: number of the first row among all rows of the process, a multiple of 8.
        parts: numbers of rows, int64 [n] from 0, and their vectors, float32 [n, dimensions];
            together each row once.
    """

    def __init__(
        self,
        codebook: Codebook,
        day: date,
        version: str,
        rows: int,
        first: int,
        parts: Iterable[tuple[npt.NDArray[np.int64], Vectors]],
    ) -> None:
        self.codebook, self.day, self.version = codebook, day, version
        self.rows, self.first = rows, first
        self._index = codebook.empty()
        for numbers, vectors in parts:
            self._index.add_with_ids(_prepared(vectors, codebook.metric), numbers + first)
        self._settle()

    @property
    def bytes(self) -> int:
        """What it takes in memory."""
        centre = LIST_BYTES + 4 * int(self._index.d)
        return self.rows * self.codebook.row_bytes + self.codebook.lists * centre

    @property
    def lists(self) -> Any:
        """FAISS's inverted lists."""
        return self._index.invlists

    def vectors(self, rows: npt.NDArray[np.int64]) -> Vectors:
        """The decoded vectors of some rows, float32 [n, dimensions]."""
        found: Vectors = self._index.reconstruct_batch(np.ascontiguousarray(rows, np.int64))
        return found

    def _settle(self) -> None:
        """Make the lists as long as they are full, and note where each row is."""
        import faiss

        places = np.full(self.rows, -1, np.int64)
        grown, exact = (
            self.lists,
            faiss.ArrayInvertedLists(self.codebook.lists, self._index.code_size),
        )
        for number in range(self.codebook.lists):
            if size := grown.list_size(number):
                ids, codes = grown.get_ids(number), grown.get_codes(number)
                exact.add_entries(number, size, ids, codes)
                places[faiss.rev_swig_ptr(ids, size) - self.first] = (number << 32) | np.arange(
                    size
                )
        if self._index.ntotal != self.rows or (places < 0).any():
            raise BatchAssetsError(f"not each of the {self.rows} rows has one vector")
        self._lists = exact
        self._index.replace_invlists(exact, False)
        faiss.copy_array_to_vector(places, self._index.direct_map.array)
        self._index.direct_map.type = faiss.DirectMap.Array


@dataclass(frozen=True)
class Hits:
    """Rows found, nearest first.

    Args:
        distances: float32 [n].
        segments: which of the index's segments, int64 [n].
        rows: number of the row in it, int64 [n].
        exact: nothing nearer can have been missed, and the distances are exact.
    """

    distances: npt.NDArray[np.float32]
    segments: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    exact: bool

    def each(self) -> Iterator[tuple[float, int, int]]:
        """Distance, segment and row of each."""
        columns = (self.distances, self.segments, self.rows)
        return zip(*(column.tolist() for column in columns), strict=True)


class MemoryIndex:
    """Some days, searched as one; immutable, for any number of threads.

    Args:
        segments: one or more days of one codebook.
    """

    def __init__(self, segments: Sequence[Segment]) -> None:
        import faiss

        self.segments = tuple(sorted(segments, key=lambda one: one.first))
        self.codebook = self.segments[0].codebook
        self.rows = sum(one.rows for one in self.segments)
        self._firsts = np.array([one.first for one in self.segments], np.int64)
        lists = faiss.InvertedListsPtrVector()
        for one in self.segments:
            lists.push_back(one.lists)
        self._stack = faiss.HStackInvertedLists(lists.size(), lists.data())
        self._index = self.codebook.empty()
        self._index.replace_invlists(self._stack, False)
        self._index.ntotal = self.rows

    def search(
        self, query: Vectors, k: int, masks: Sequence[Mask] | None = None, whole: bool = False
    ) -> Hits:
        """The k rows nearest to a vector, float32 [dimensions]; k if there are so many.

        Args:
            query: as stored; normalised here where the metric demands it.
            k: how many.
            masks: for each segment, which of its rows may be found; None for all.
            whole: compare with every row.
        """
        asked = _prepared(query[None], self.codebook.metric)
        matching = self.rows if masks is None else sum(int(mask.sum()) for mask in masks)
        k = min(k, matching)
        if k == 0:
            return _hits([], [], [], True)
        if masks is not None and matching <= FEW_ROWS:
            return self._compare(asked, k, masks)
        lists = self.codebook.lists
        probes = lists if whole or matching <= SCANNED_ROWS else self._probes(k, matching)
        selector = None if masks is None else self._selector(masks)
        while True:
            distances, ids = self._probe(asked, k, probes, selector)
            if probes >= lists or ids[-1] >= 0:
                break
            probes = min(lists, 4 * probes)
        segments = self._firsts.searchsorted(ids, "right") - 1
        rows = ids - self._firsts[segments]
        exact = probes >= lists and self.codebook.exact
        return _hits(self.codebook.distances(distances), segments, rows, exact)

    def _probe(self, query: Vectors, k: int, probes: int, selector: Any) -> tuple[Any, Any]:
        import faiss

        faiss.omp_set_num_threads(1)  # of this thread: one query, one core
        parameters = faiss.SearchParametersIVF(nprobe=probes, sel=selector)
        distances, ids = self._index.search(query, k, params=parameters)
        return distances[0], ids[0]

    def _compare(self, query: Vectors, k: int, masks: Sequence[Mask]) -> Hits:
        """Each row that the masks let through."""
        distances, segments, rows = [], [], []
        for number, (one, mask) in enumerate(zip(self.segments, masks, strict=True)):
            wanted = np.flatnonzero(mask)
            if len(wanted) == 0:
                continue
            distances.append(distances_to(one.vectors(wanted), query[0], self.codebook.metric))
            segments.append(np.full(len(wanted), number))
            rows.append(wanted)
        found = np.concatenate(distances)
        best = np.argsort(found, kind="stable")[:k]
        at = np.concatenate(segments)[best], np.concatenate(rows)[best]
        return _hits(found[best], *at, self.codebook.exact)

    def _selector(self, masks: Sequence[Mask]) -> Any:
        """What lets the rows through that the masks do."""
        import faiss

        last = self.segments[-1]
        bits = np.zeros((last.first + last.rows + 7) // 8, np.uint8)
        for one, mask in zip(self.segments, masks, strict=True):
            packed = np.packbits(mask, bitorder="little")
            bits[one.first // 8 : one.first // 8 + len(packed)] = packed
        return faiss.IDSelectorBitmap(bits)

    def _probes(self, k: int, matching: int) -> int:
        """Lists to look into: more for many neighbours, and where few rows match."""
        lists = self.codebook.lists
        probes = PROBES * max(1.0, k / 10) ** 0.5
        probes *= (self.codebook.rows / min(matching, self.codebook.rows)) ** 0.5
        return min(lists, math.ceil(probes))


def distances_to(vectors: Vectors, query: Vectors, metric: str) -> Vectors:
    """How far vectors, float32 [n, dimensions], are from one, as the vector store measures it."""
    if metric == "l2":
        apart = vectors - query
        return np.einsum("ij,ij->i", apart, apart)
    products: Vectors = _prepared(vectors, metric) @ _prepared(query[None], metric)[0]
    return 1 - products


def lists_for(rows: int) -> int:
    """Number of lists for so many rows: as many as each then has rows."""
    return max(16, min(4_096, math.isqrt(rows)))


def sample_rows(rows: int) -> int:
    """How many rows a codebook for so many should be trained on."""
    return min(rows, SAMPLE_A_LIST * lists_for(rows))


def day_bytes(format: Format, dimensions: int, rows: int, of_rows: int) -> int:
    """What a day takes in memory, one of a codebook for so many rows."""
    code = {"fp32": 4 * dimensions, "fp16": 2 * dimensions, "sq8": dimensions}
    row = code.get(format, sub_vectors(dimensions)) + ID_BYTES
    return rows * row + lists_for(of_rows) * (LIST_BYTES + 4 * dimensions)


def _code(format: Format, sample: Vectors) -> str:
    """What FAISS's factory calls the format."""
    if format != "pq":
        return {"fp32": "Flat", "fp16": "SQfp16", "sq8": "SQ8"}[format]
    bits = 8 if len(sample) >= 1_000 else 4
    # np: without polysemous training, which takes a minute and serves another kind of search.
    return f"PQ{sub_vectors(sample.shape[1])}x{bits}np"


def _prepared(vectors: Vectors, metric: str) -> Vectors:
    """Contiguous float32, of length 1 if the metric is cosine."""
    vectors = np.ascontiguousarray(vectors, np.float32)
    if metric != "cosine":
        return vectors
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths == 0, 1, lengths)).astype(np.float32)


def _hits(distances: Any, segments: Any, rows: Any, exact: bool) -> Hits:
    return Hits(
        np.asarray(distances, np.float32),
        np.asarray(segments, np.int64),
        np.asarray(rows, np.int64),
        exact,
    )
