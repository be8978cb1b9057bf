"""`VectorStore`: vector tables in LanceDB, written a day at a time."""

import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batch_assets.storage.vectors import maintenance
from batch_assets.storage.vectors.commits import Change, commit, create, replacement
from batch_assets.storage.vectors.day_rows import DayRows, rows_of_day
from batch_assets.storage.vectors.errors import VectorStoreError
from batch_assets.storage.vectors.filters import Filter, Value, filter_sql
from batch_assets.storage.vectors.fragments import DayState, FragmentIndex
from batch_assets.storage.vectors.incoming import IncomingDay, key_hashes, refuse_repeated
from batch_assets.storage.vectors.maintenance import Optimised
from batch_assets.storage.vectors.scope import Days
from batch_assets.storage.vectors.search import Snapshot, coverage, lookup, search
from batch_assets.storage.vectors.table import (
    VectorIndex,
    VectorTable,
    VectorType,
    as_found,
    check_schema,
)

if TYPE_CHECKING:
    from lance import LanceDataset, Session
    from lance.fragment import FragmentMetadata

CACHE_BYTES = 512 * 1024**2
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StagedRows:
    """Rows of a day in files that no version of the table names; survives as JSON.

    `files` describes the fragments as Lance writes them down.
    """

    rows: int
    files: tuple[str, ...]

    def fragments(self) -> "list[FragmentMetadata]":
        """The fragments, to be committed."""
        from lance.fragment import FragmentMetadata

        return [FragmentMetadata.from_json(text) for text in self.files]


@dataclass(frozen=True)
class DayWritten:
    """Rows now in the table for the day, the table's version, and the seconds it took."""

    rows: int
    version: int
    seconds: float


class VectorStore:
    """Vector tables below one address, readable by LanceDB as they are.

    Each day of a table is replaced in one commit: a reader sees all of the old rows or all
    of the new ones, and of several writers of one day exactly one remains. Rows are streamed;
    memory does not grow with a day's size, but for 8 bytes a row.

    Arguments:
        uri: a folder, or an object store's address (`s3://bucket/vectors`).
        storage_options: what the object store needs, as in `lancedb.connect`.
        cache_bytes: bound for indexes and metadata kept in memory.

    Example:
        >>> store = VectorStore("/data/vectors")                            # doctest: +SKIP
        >>> store.replace_day(documents, date(2026, 3, 1), batches)         # doctest: +SKIP
        DayWritten(rows=10000, version=2, seconds=0.05)
        >>> store.search(documents, key="doc-17", k=5,                      # doctest: +SKIP
        ...     days=(date(2026, 2, 1), None), filters=[Equals("author", "O'Brien")])
    """

    def __init__(
        self,
        uri: str,
        *,
        storage_options: Mapping[str, str] | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.uri = str(uri).rstrip("/")
        self._options = dict(storage_options) if storage_options else None
        self._cache_bytes = cache_bytes
        self._session: Session | None = None
        self._indexes: dict[VectorTable, FragmentIndex] = {}

    def ensure(self, spec: VectorTable, vector_type: VectorType | None = None) -> VectorTable:
        """Create the table if it is not there; any number of processes may do so at once.

        Arguments:
            spec: the table.
            vector_type: what a new table stores vectors as; by default as ``spec`` says. A table
                that is there keeps its type, and everything written to it is converted to that.

        Returns:
            The table as it is on disk.

        Raises:
            VectorStoreError: the table is there with other columns or types.
        """
        wanted = spec.stored_as(vector_type or spec.vector_type)
        if not self.exists(spec):
            try:
                create(self.table_uri(spec), wanted.schema, self._options)
            except OSError:
                if not self.exists(spec):
                    raise
        found = self._open(spec).schema
        stored = as_found(spec, found)
        check_schema(stored, found)
        if vector_type is not None and stored != wanted:
            logger.warning(
                "Vector table %s stores vectors as %s and goes on to do so, not as %s. To change "
                "that, move %s away and compute its days again.",
                spec.name,
                stored.vector_type,
                vector_type,
                self.table_uri(spec),
            )
        return stored

    def exists(self, spec: VectorTable) -> bool:
        """Whether the table is there."""
        try:
            self._open(spec)
        except VectorStoreError:
            return False
        return True

    def table_uri(self, spec: VectorTable) -> str:
        """Where the table lives."""
        return f"{self.uri}/{spec.name}.lance"

    def replace_day(
        self,
        spec: VectorTable,
        day: date,
        batches: pa.RecordBatchReader | Iterable[pa.RecordBatch],
    ) -> DayWritten:
        """Make these rows all that the table holds of the day, in one commit.

        No rows at all empty the day. Nothing is committed if the stream or a check fails; what
        was written by then is left beside the table for `optimise` to remove after seven days.

        Arguments:
            spec: the table, created if it is not there.
            day: the day that every row must carry.
            batches: the rows, with at least the table's columns; each batch should have 1,000
                to 100,000 rows.

        Raises:
            VectorStoreError: a column is missing or does not fit, a row is of another day, a
                key comes twice, or a vector is not finite.
        """
        started = time.perf_counter()
        staged = self.stage(spec, day, batches)
        version = self.publish(spec, {day: [staged]})
        return DayWritten(staged.rows, version, time.perf_counter() - started)

    def stage(
        self,
        spec: VectorTable,
        day: date,
        batches: pa.RecordBatchReader | Iterable[pa.RecordBatch],
    ) -> StagedRows:
        """Write rows of a day beside the table, where no reader sees them until `publish`.

        What is never published is left for `optimise` to remove after seven days. Arguments and
        errors are those of `replace_day`.
        """
        from lance.fragment import write_fragments

        stored = self.ensure(spec)
        incoming = IncomingDay(stored, day, batches)
        try:
            new = write_fragments(
                incoming.reader(),
                self._open(spec),
                mode="append",
                max_rows_per_file=maintenance.ROWS_PER_FILE,
            )
        except Exception:
            if incoming.failure is not None:
                raise incoming.failure from None
            raise
        new = [fragment for fragment in new if fragment.physical_rows]
        incoming.refuse_repeated(self._files(spec, new), self._options)
        return StagedRows(incoming.rows, tuple(json.dumps(one.to_json()) for one in new))

    def is_staged(self, spec: VectorTable, staged: StagedRows) -> bool:
        """Whether the files are still there, whole, with as many rows as were written."""
        from lance.file import LanceFileReader

        try:
            files = self._files(spec, staged.fragments())
            readers = [LanceFileReader(file, storage_options=self._options) for file in files]
            return sum(reader.num_rows() for reader in readers) == staged.rows
        except (OSError, ValueError):
            return False

    def staged_bytes(self, staged: StagedRows) -> int:
        """Size of the files."""
        return sum(file.file_size_bytes or 0 for one in staged.fragments() for file in one.files)

    def publish(self, spec: VectorTable, staged: Mapping[date, Sequence[StagedRows]]) -> int:
        """Make what was staged all that the table holds of these days, in one commit.

        Returns:
            The table's version.

        Raises:
            VectorStoreError: a key of a day was staged twice.
        """
        self.ensure(spec)
        new: list[FragmentMetadata] = []
        for day, parts in staged.items():
            of_day = [fragment for part in parts for fragment in part.fragments()]
            if len(parts) > 1:
                refuse_repeated(spec, day, self._files(spec, of_day), self._options)
            new += of_day
        return self._replace(spec, list(staged), new)

    def day_rows(self, spec: VectorTable, day: date, version: str) -> DayRows | None:
        """The rows of a day, to be read by position; None unless all carry this version."""
        return rows_of_day(self.snapshot(spec), day, version)

    def delete_days(self, spec: VectorTable, days: Iterable[date]) -> int:
        """Remove the rows of these days in one commit; gives the table's version then."""
        return self._replace(spec, list(days), [])

    def days(self, spec: VectorTable) -> dict[date, DayState]:
        """Rows and versions of each day, ascending; what was read once is remembered."""
        return self._index(spec).days(self._open(spec))

    def count(self, spec: VectorTable, filters: Iterable[Filter] = ()) -> int:
        """Number of rows."""
        return int(self._open(spec).count_rows(filter_sql(spec, filters)))

    def distinct_keys(self, spec: VectorTable, filters: Iterable[Filter] = ()) -> int:
        """Number of distinct keys; 8 bytes a row in memory, about 0.3 s a million rows.

        Keys are told apart by 64-bit hashes: two different ones of 10 million fall together
        once in 400,000 counts.
        """
        dataset, which = self._open(spec), filter_sql(spec, filters)
        hashes, at = np.empty(dataset.count_rows(which), np.int64), 0
        for batch in dataset.to_batches(columns=[spec.key], filter=which):
            hashes[at : at + batch.num_rows] = key_hashes(batch[spec.key])
            at += batch.num_rows
        hashes.sort()
        return int((hashes[1:] != hashes[:-1]).sum()) + (1 if at else 0)

    def search(
        self,
        spec: VectorTable,
        vector: npt.ArrayLike | None = None,
        *,
        key: Value | None = None,
        k: int = 10,
        days: Days | None = None,
        filters: Iterable[Filter] = (),
        exact: bool = False,
        valid: Mapping[date, str] | None = None,
        columns: Sequence[str] | None = None,
        nprobes: int | None = None,
    ) -> pa.Table:
        """The k rows nearest to a vector, or to the vector of a key, nearest first.

        All conditions hold before the ranking (prefilter), so k rows come whenever there are
        k. All rows come from one version of the table.

        Arguments:
            spec: the table.
            vector: float32 (dimensions,); or give `key`.
            key: search around the vector of this key; the key itself is not in the result.
            k: number of neighbours, 1 to 10,000.
            days: first and last day, both included; None leaves a side open.
            filters: `Equals`, `OneOf` and `Range` on the table's columns; all must hold.
            exact: compare with every row; otherwise an index is used where it is faster.
            valid: the version that each day's rows must carry; days that it does not name are
                not seen. None accepts every version.
            columns: columns of the result; by default all but the vector.
            nprobes: partitions of the index to look into; chosen for recall@10 above .95.

        Returns:
            The columns and `_distance` (for the metric `l2` its square). The schema's metadata
            say `exact` (true, false) and `index_coverage`: the share of the rows in the range
            of days that the index covers. Rows outside are compared one by one, never missed.

        Raises:
            VectorStoreError: an unknown key or column, a value that does not fit a column, a
                vector of another length or with NaN, or no such table.
        """
        return search(
            self.snapshot(spec),
            vector=vector,
            key=key,
            k=k,
            days=days,
            filters=filters,
            exact=exact,
            valid=valid,
            columns=columns,
            nprobes=nprobes,
        )

    def snapshot(self, spec: VectorTable) -> Snapshot:
        """The newest version, pinned, and what its fragments hold.

        What is read from it stays the same until `optimise` removes versions of that age.
        """
        dataset = self._open(spec)
        return Snapshot(spec, dataset, self._index(spec).fragments(dataset))

    def lookup(
        self,
        spec: VectorTable,
        keys: Sequence[Value],
        *,
        columns: Sequence[str] | None = None,
        valid: Mapping[date, str] | None = None,
    ) -> pa.Table:
        """The rows of these keys, newest day first; unknown keys have none."""
        return lookup(self.snapshot(spec), keys, columns=columns, valid=valid)

    def scan(
        self, spec: VectorTable, columns: Sequence[str], *, valid: Mapping[date, str]
    ) -> pa.RecordBatchReader:
        """All rows of the days that `valid` names, of the version that it names; streamed."""
        snapshot = self.snapshot(spec)
        which = snapshot.scope(None, valid).sql
        return snapshot.dataset.scanner(columns=list(columns), filter=which).to_reader()

    def index_coverage(self, spec: VectorTable) -> float:
        """Share of all rows that the vector index covers, 0.0 to 1.0; 0.0 without an index."""
        snapshot = self.snapshot(spec)
        return coverage(snapshot, snapshot.scope(None, None))

    def optimise(
        self,
        spec: VectorTable,
        *,
        index_above: int = maintenance.INDEX_ABOVE,
        keep: timedelta = timedelta(days=1),
        vector_index: VectorIndex = "IVF_FLAT",
    ) -> Optimised:
        """Bring the table in order while others read and write; cheap if nothing is new.

        Days that other software scattered are rewritten, each by itself; indexes on key,
        day, the declared columns and, from `index_above` rows, the vector are created,
        extended over new days, or trained anew when half of the rows are not those they
        were trained on, or is of another kind than `vector_index`; versions older than `keep`
        (10 minutes or more) are removed.
        Call this, not LanceDB's `optimize()`, which puts days together into one file.
        """
        return maintenance.optimise(
            spec,
            lambda: self._open(spec),
            self._index(spec),
            index_above=index_above,
            keep=keep,
            vector_index=vector_index,
        )

    def _replace(
        self, spec: VectorTable, days: Sequence[date], new: "Sequence[FragmentMetadata]"
    ) -> int:
        """Commit that `new` is all there is of these days; gives the version."""
        index = self._index(spec)

        def plan(base: "LanceDataset") -> Change:
            return replacement(spec, base, index.fragments(base), days, new)

        return int(commit(lambda: self._open(spec), plan, spec.name).version)

    def _files(self, spec: VectorTable, fragments: "Sequence[FragmentMetadata]") -> list[str]:
        """Addresses of the fragments' files."""
        return [f"{self.table_uri(spec)}/data/{f.path}" for one in fragments for f in one.files]

    def _index(self, spec: VectorTable) -> FragmentIndex:
        """What is remembered of a table's fragments."""
        return self._indexes.setdefault(spec, FragmentIndex(spec))

    def _open(self, spec: VectorTable) -> "LanceDataset":
        """The newest version of a table."""
        import lance

        if self._session is None:
            self._session = lance.Session(
                index_cache_size_bytes=self._cache_bytes,
                metadata_cache_size_bytes=self._cache_bytes // 4,
            )
        try:
            return lance.dataset(
                self.table_uri(spec), storage_options=self._options, session=self._session
            )
        except (ValueError, OSError) as error:
            if "not found" not in str(error):
                raise
            raise VectorStoreError(
                f"There is no vector table {spec.name} in {self.uri}. Compute a day first; "
                f"`ensure` creates an empty one."
            ) from error
