"""Upkeep of a vector table: fragments, indexes and old versions."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING

from batch_assets.storage.memory import release_memory
from batch_assets.storage.vectors.commits import Change, back_off, commit, is_conflict, replacement
from batch_assets.storage.vectors.errors import VectorStoreError
from batch_assets.storage.vectors.fragments import FragmentDays, FragmentIndex
from batch_assets.storage.vectors.table import VectorIndex, VectorTable

if TYPE_CHECKING:
    from lance import LanceDataset

ROWS_PER_FILE = 1024 * 1024
ROWS_PER_PARTITION = 2048
PARTITIONS_OF_A_MILLION = 512
INDEX_ABOVE = 50_000
"""Rows from which a vector index pays; below, comparing every row takes under 10 ms."""

MAX_SEGMENTS = 8
"""Pieces of the vector index from which those of single days are merged."""

SAFE_AGE = timedelta(minutes=10)
"""A version younger than this may be in a reader's hands and is never removed."""

ATTEMPTS = 20

OpenLatest = Callable[[], "LanceDataset"]


@dataclass
class Optimised:
    """What an upkeep run did; all zero and empty if there was nothing to do."""

    days_compacted: list[date] = field(default_factory=list)
    indexes_created: list[str] = field(default_factory=list)
    indexes_extended: list[str] = field(default_factory=list)
    versions_removed: int = 0
    bytes_removed: int = 0
    seconds: float = 0.0


def optimise(
    spec: VectorTable,
    open_latest: OpenLatest,
    index: FragmentIndex,
    *,
    index_above: int,
    keep: timedelta,
    vector_index: VectorIndex,
) -> Optimised:
    """Bring files, indexes and versions in order; see `VectorStore.optimise`."""
    if keep < SAFE_AGE:
        raise VectorStoreError(
            f"Vector table {spec.name}: old versions must be kept for {SAFE_AGE} or more, "
            f"not {keep}, or readers that are open now would break."
        )
    done, started = Optimised(), time.perf_counter()
    done.days_compacted = _compact_days(spec, open_latest, index)
    for column, kind in _wanted_indexes(spec, vector_index):
        _bring_up(spec, open_latest, index, column, kind, index_above, done)
        release_memory()
    removed = open_latest().cleanup_old_versions(
        older_than=keep, error_if_tagged_old_versions=False
    )
    done.versions_removed, done.bytes_removed = removed.old_versions, removed.bytes_removed
    done.seconds = time.perf_counter() - started
    return done


def partitions_for(rows: int) -> int:
    """Number of partitions of a vector index over so many rows.

    Training takes rows times partitions, a search the root of the partitions less: beyond a
    million rows the number grows with the root of the rows.
    """
    most = PARTITIONS_OF_A_MILLION * max(1.0, rows / 2**20) ** 0.5
    return max(1, min(rows // ROWS_PER_PARTITION, round(most)))


def sub_vectors(dimensions: int) -> int:
    """Number of parts, of four numbers where that fits, that product quantisation codes apart."""
    most = max(1, dimensions // 4)
    return max(n for n in range(1, most + 1) if dimensions % n == 0)


def covered_fragments(dataset: "LanceDataset", column: str) -> frozenset[int]:
    """Ids of the fragments that a column's index covers; empty if it has none."""
    return frozenset(one for segment in _segments(dataset, column) for one in segment)


def kind_of_index(dataset: "LanceDataset", column: str) -> str | None:
    """What kind of index a vector column has; None if it has none."""
    found = (one for one in dataset.describe_indices() if one.name == _index_name(column))
    return next((str(one.index_type) for one in found), None)


def _segments(dataset: "LanceDataset", column: str) -> list[frozenset[int]]:
    """Ids of the fragments in each piece of a column's index, the oldest piece first."""
    return [
        frozenset(segment.fragment_ids)
        for description in dataset.describe_indices()
        if description.name == _index_name(column)
        for segment in description.segments
    ]


def _index_name(column: str) -> str:
    """The name that Lance and LanceDB give an index of one column."""
    return f"{column}_idx"


def _wanted_indexes(spec: VectorTable, vector_index: VectorIndex) -> list[tuple[str, str]]:
    """Columns and the kind of their index."""
    scalars = [*((one, "BTREE") for one in spec.btree_columns)]
    scalars += [(one, "BITMAP") for one in spec.bitmap_columns]
    return [*scalars, (spec.vector, vector_index)]


def _bring_up(
    spec: VectorTable,
    open_latest: OpenLatest,
    index: FragmentIndex,
    column: str,
    kind: str,
    index_above: int,
    done: Optimised,
) -> None:
    """Create one index, or extend it over new fragments; again after a conflict."""
    for attempt in range(1, ATTEMPTS + 1):
        dataset = open_latest()
        fragments = index.fragments(dataset)
        try:
            if column == spec.vector:
                did = _bring_up_vectors(spec, dataset, fragments, index_above, kind)
            else:
                did = _bring_up_scalar(dataset, fragments, column, kind)
        except OSError as error:
            if not is_conflict(error) or attempt == ATTEMPTS:
                raise
            back_off(attempt)
            continue
        if did is not None:
            (done.indexes_created if did == "created" else done.indexes_extended).append(column)
        return


def _bring_up_scalar(
    dataset: "LanceDataset", fragments: list[FragmentDays], column: str, kind: str
) -> str | None:
    """Create or extend the index of one plain column."""
    covered = covered_fragments(dataset, column)
    if not fragments or covered.issuperset(one.metadata.id for one in fragments):
        return None
    if not covered:
        dataset.create_scalar_index(column, kind)
        return "created"
    dataset.optimize.optimize_indices(index_names=[_index_name(column)])
    return "extended"


def _bring_up_vectors(
    spec: VectorTable,
    dataset: "LanceDataset",
    fragments: list[FragmentDays],
    index_above: int,
    kind: str,
) -> str | None:
    """Create, extend or retrain the vector index.

    New days become pieces of their own, which are merged when there are many. The first
    piece is the one whose partitions were trained. Once less than half of all rows are those
    it was trained on (the table grew, or a new model replaced its days), it is trained anew, and
    so it is if another kind is wanted.
    """
    rows = {one.metadata.id: sum(state.rows for state in one.days.values()) for one in fragments}
    segments = _segments(dataset, spec.vector)
    trained = sum(rows.get(one, 0) for one in segments[0]) if segments else 0
    total = sum(rows.values())
    if total < index_above and not segments:
        return None
    if 2 * trained < total or kind_of_index(dataset, spec.vector) not in (None, kind):
        _create(spec, dataset, kind, partitions_for(total))
        return "created"
    if len(segments) <= MAX_SEGMENTS and frozenset[int]().union(*segments).issuperset(rows):
        return None
    many = len(segments) >= MAX_SEGMENTS
    merged = {"num_indices_to_merge": len(segments) - 1} if many else {}
    dataset.optimize.optimize_indices(index_names=[_index_name(spec.vector)], **merged)
    return "extended"


def _create(spec: VectorTable, dataset: "LanceDataset", kind: str, partitions: int) -> None:
    """Train an index; with fewer partitions, where too few vectors differ from each other."""
    parts = {"num_sub_vectors": sub_vectors(spec.dimensions)} if kind == "IVF_PQ" else {}
    while True:
        try:
            dataset.create_index(
                spec.vector,
                kind,
                metric=spec.metric,
                num_partitions=partitions,
                replace=True,
                **parts,
            )
            return
        except RuntimeError as error:
            if "non-empty clusters" not in str(error) or partitions == 1:
                raise
            partitions //= 2


def _compact_days(spec: VectorTable, open_latest: OpenLatest, index: FragmentIndex) -> list[date]:
    """Rewrite each day whose rows lie in needlessly many files, beside others, or among holes."""
    dataset = open_latest()
    by_day: dict[date, list[FragmentDays]] = {}
    for fragment in index.fragments(dataset):
        for day in fragment.days:
            by_day.setdefault(day, []).append(fragment)
    untidy = [day for day, fragments in sorted(by_day.items()) if _untidy(day, fragments)]
    return [day for day in untidy if _rewrite(spec, open_latest, index, day)]


def _untidy(day: date, fragments: list[FragmentDays]) -> bool:
    """Whether rewriting a day would make it better to read."""
    rows = sum(fragment.days[day].rows for fragment in fragments)
    written = sum(fragment.metadata.physical_rows for fragment in fragments)
    shared = any(len(fragment.days) > 1 for fragment in fragments)
    return shared or written > 1.1 * rows or len(fragments) > 2 * math.ceil(rows / ROWS_PER_FILE)


def _rewrite(spec: VectorTable, open_latest: OpenLatest, index: FragmentIndex, day: date) -> bool:
    """Write a day's rows anew; give way if another writer touched the day meanwhile."""
    from lance.fragment import write_fragments

    dataset = open_latest()
    read = [one for one in index.fragments(dataset) if day in one.days]
    if not read:
        return False
    rows = dataset.scanner(
        filter=f"`{spec.day}` = DATE '{day.isoformat()}'",
        fragments=[dataset.get_fragment(one.metadata.id) for one in read],
    )
    new = write_fragments(rows.to_reader(), dataset, mode="append", max_rows_per_file=ROWS_PER_FILE)
    before, committed = {one.identity for one in read}, False

    def plan(base: "LanceDataset") -> Change:
        nonlocal committed
        fragments = index.fragments(base)
        committed = {one.identity for one in fragments if day in one.days} == before
        return replacement(spec, base, fragments, [day], new) if committed else Change()

    commit(open_latest, plan, spec.name)
    return committed
