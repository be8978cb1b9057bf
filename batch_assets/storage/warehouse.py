"""Delta tables whose days are replaced in one commit and remember what they were made from.

A data file is called ``<partitions>/<key>-<random>.parquet``. The key is a
digest of everything that decided its content, so a look at the file list tells
which days are up to date; no second store can disagree with the table.
"""

import json
import os
import shutil
import time
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from batch_assets.errors import BatchAssetsError
from batch_assets.protocol import Moment, passed
from batch_assets.storage.columns import check_columns, check_types, has_columns, with_columns
from batch_assets.storage.memory import release_memory
from batch_assets.storage.tables import DAY, Table

if TYPE_CHECKING:
    import duckdb


class ConcurrentWrite(BatchAssetsError):
    """Another process replaced one of the same days first; look again and decide anew."""


@dataclass(frozen=True)
class DataFile:
    """One committed Parquet file."""

    path: str
    partition: Mapping[str, date]
    rows: int
    bytes: int
    added_at: datetime

    @property
    def day(self) -> date:
        return self.partition[DAY]

    @property
    def key(self) -> str:
        return self.path.rsplit("/", 1)[-1].rsplit("-", 1)[0]


@dataclass(frozen=True)
class StagedFile:
    """A Parquet file written but not committed, and the partition it is for."""

    path: Path
    partition: Mapping[str, date]
    key: str


@dataclass(frozen=True)
class Snapshot:
    """The files of one version of a table; reading it is never disturbed by later commits."""

    table: Table
    root: str
    version: int
    files: tuple[DataFile, ...]

    @cached_property
    def by_day(self) -> dict[date, list[DataFile]]:
        days: dict[date, list[DataFile]] = defaultdict(list)
        for file in self.files:
            days[file.day].append(file)
        return dict(days)

    @cached_property
    def keys(self) -> dict[date, str]:
        """Day -> key of what it was made from."""
        return {day: files[0].key for day, files in self.by_day.items()}

    def rows(self, days: Collection[date] | None = None) -> int:
        """Rows in all, or of the named days."""
        return sum(f.rows for f in (self.files if days is None else self.on(days)))

    def on(self, days: Collection[date]) -> list[DataFile]:
        """The files of the named days."""
        return [file for day in days for file in self.by_day.get(day, [])]

    def register(
        self,
        connection: "duckdb.DuckDBPyConnection",
        files: Collection[DataFile] | None = None,
        name: str | None = None,
    ) -> None:
        """Make this snapshot, or only some of its files, a view of a DuckDB connection."""
        view = name or self.table.name
        self.relation(connection, files).create_view(view, replace=True)

    def relation(
        self, connection: "duckdb.DuckDBPyConnection", files: Collection[DataFile] | None = None
    ) -> "duckdb.DuckDBPyRelation":
        """This snapshot, or only some of its files, with the table's columns."""
        paths = [f"{self.root}/{f.path}" for f in (self.files if files is None else files)]
        if not paths:
            return connection.from_arrow(self.table.schema.empty_table())
        return connection.read_parquet(paths, hive_partitioning=True).select(*self.table.columns)


@dataclass
class Warehouse:
    """All tables under one root.

    Args:
        root: folder of the tables.
        memory_limit: what one DuckDB connection may use before it spills, e.g. ``"1GB"``.
        threads: DuckDB threads.
    """

    root: str
    memory_limit: str = "1GB"
    threads: int = 2

    @property
    def scratch(self) -> Path:
        """Where files are made before they are published; on the warehouse's own disk."""
        return Path(self.root).parent / ".scratch"

    @contextmanager
    def connect(self) -> "Iterator[duckdb.DuckDBPyConnection]":
        """An in-memory DuckDB connection with the machine's limits set; times are UTC."""
        spill = self.scratch / f"spill-{uuid.uuid4().hex}"
        config = {
            "memory_limit": self.memory_limit,
            "threads": self.threads,
            "temp_directory": str(spill),
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        try:
            with self._opened(config) as connection:
                connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
                yield connection
        finally:
            shutil.rmtree(spill, ignore_errors=True)
            release_memory()

    def _opened(
        self, config: dict[str, Any]
    ) -> "AbstractContextManager[duckdb.DuckDBPyConnection]":
        from dagster_duckdb import DuckDBResource

        return DuckDBResource(database=":memory:", connection_config=config).get_connection()

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A private folder on the warehouse's own disk, removed afterwards."""
        folder = self.scratch / uuid.uuid4().hex
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def snapshot(self, table: Table) -> Snapshot:
        """The newest version of a table; version -1 and no files where it does not exist yet."""
        root = f"{self.root}/{table.name}"
        try:
            delta = DeltaTable(root)
        except TableNotFoundError:
            return Snapshot(table, root, -1, ())
        if table.columns_may_change and not has_columns(table, delta):
            return Snapshot(table, root, delta.version(), ())
        check_columns(table, delta, root)
        actions = pa.table(delta.get_add_actions(flatten=True)).to_pylist()
        return Snapshot(table, root, delta.version(), tuple(_data_file(table, a) for a in actions))

    def empty_file(self, folder: Path, table: Table, day: date, key: str) -> StagedFile:
        """Stage a file without rows, which says that the day was built and is empty."""
        path = folder / f"empty-{table.name}-{day}.parquet"
        pq.write_table(table.file_schema.empty_table(), path, compression="zstd")
        return StagedFile(path, {DAY: day}, key)

    def commit(
        self,
        base: Snapshot,
        added: Iterable[StagedFile],
        removed: Iterable[DataFile],
        days: Collection[date],
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Publish staged files and drop others, in one commit.

        Args:
            base: what the decision was based on.
            days: every day that changes. Of two processes that change the same day from the
                same base, exactly one succeeds, a day that did not exist included: each day
                is an application transaction of the Delta log.

        Raises:
            ConcurrentWrite: one of the days was changed since ``base``; nothing was published.
        """
        table = base.table
        delta = self._open_or_create(table)
        delta.load_as_version(max(base.version, 0))
        if not has_columns(table, delta):  # as they were when looked at, before they were changed
            delta.load_as_version(base.version + 1)
        adds = [self._publish(base, staged) for staged in added]
        passed(Moment.FILES_IN_PLACE)
        drops = [_remove_action(file) for file in removed]
        transactions = [
            Transaction(f"day={day}", (delta.transaction_version(f"day={day}") or 0) + 1)
            for day in sorted(days)
        ]
        try:
            delta.create_write_transaction(
                [*adds, *drops],
                "append",
                table.schema,
                list(table.partition_by),
                commit_properties=CommitProperties(
                    custom_metadata=dict(metadata or {}), app_transactions=transactions
                ),
            )
        except CommitFailedError as error:
            for add in adds:
                Path(base.root, add.path).unlink(missing_ok=True)
            raise ConcurrentWrite(f"{table.name}: another process changed the same days") from error

    def replace_days(
        self, base: Snapshot, files: Iterable[StagedFile], days: Collection[date]
    ) -> None:
        """Replace whole days in one commit (see :meth:`commit`)."""
        gone = [f for day in days for f in base.by_day.get(day, [])]
        self.commit(base, files, gone, days)

    def _open_or_create(self, table: Table) -> DeltaTable:
        root = f"{self.root}/{table.name}"
        try:
            return with_columns(table, DeltaTable(root))
        except TableNotFoundError:
            pass
        with suppress(DeltaError):  # another process was faster; opening it below tells
            DeltaTable.create(
                root,
                table.schema,
                mode="error",
                partition_by=list(table.partition_by),
                name=table.name,
                description=table.description,
            )
        return DeltaTable(root)

    def _publish(self, base: Snapshot, staged: StagedFile) -> AddAction:
        folder = "/".join(f"{name}={day}" for name, day in staged.partition.items())
        path = f"{folder}/{staged.key}-{uuid.uuid4().hex}.parquet"
        target = Path(base.root, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        metadata = pq.read_metadata(staged.path)
        check_types(base.table, metadata.schema.to_arrow_schema())
        _link(staged.path, target)
        return AddAction(
            path=path,
            size=target.stat().st_size,
            partition_values={name: str(day) for name, day in staged.partition.items()},
            modification_time=int(time.time() * 1000),
            data_change=True,
            stats=json.dumps({"numRecords": metadata.num_rows}),
        )


def _link(source: Path, target: Path) -> None:
    """The same file under another name too, so that a commit that fails or is cut off can be
    tried again; a copy where there are no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _remove_action(file: DataFile) -> RemoveAction:
    return RemoveAction(
        path=file.path,
        data_change=True,
        deletion_timestamp=int(time.time() * 1000),
        size=file.bytes,
        partition_values={name: str(day) for name, day in file.partition.items()},
    )


def _data_file(table: Table, action: Mapping[str, Any]) -> DataFile:
    partition = {name: action[f"partition.{name}"] for name in table.partition_by}
    added_at = datetime.fromtimestamp(action["modification_time"] / 1000, UTC)
    return DataFile(
        action["path"], partition, action["num_records"], action["size_bytes"], added_at
    )
