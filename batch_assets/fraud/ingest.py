"""From landing files to the raw tables, each file once.

The raw table's own file names say which content of which landing file they
hold, so a crash at any point is repaired by looking: what is missing is added,
what is outdated goes, in one commit.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from batch_assets.fraud import tables
from batch_assets.fraud.feeds import Feeds, Kind
from batch_assets.fraud.landing import LandedFile, digest, scan_landing
from batch_assets.fraud.sql import sql_text
from batch_assets.fraud.staging import stage_files
from batch_assets.settings import Settings
from batch_assets.storage.tables import Table
from batch_assets.storage.warehouse import (
    ConcurrentWrite,
    Snapshot,
    StagedFile,
    Warehouse,
)

if TYPE_CHECKING:
    import duckdb

READER_VERSION = "1"
RAW: dict[Kind, Table] = {
    "transactions": tables.RAW_TRANSACTIONS,
    "labels": tables.RAW_LABELS,
    "rates": tables.RAW_RATES,
}
BYTES_A_COMMIT = 256 << 20
ATTEMPTS = 20
Progress = Callable[[date], None]


@cache
def ingest_version() -> str:
    """Changes when the code that reads files changes."""
    return digest(READER_VERSION, sql_text("ingest"))[:8]


@dataclass(frozen=True)
class Landing:
    """What one look at the landing zone and the warehouse told."""

    kind: Kind
    files: list[LandedFile]
    seen: dict[str, dict[str, Any]]
    raw: Snapshot
    register: Snapshot
    settings: Settings

    def key(self, file: LandedFile) -> str:
        """Name under which raw keeps the file; changes with all that decides its rows."""
        how = digest(
            ingest_version(),
            file.feed.digest,
            self.settings.start_date,
            self.settings.future_tolerance_days,
        )
        return f"{file.file_id}.{file.content_hash[:16]}.{how[:8]}"

    def is_done(self, file: LandedFile) -> bool:
        """Whether raw holds exactly this content, and the register says so."""
        known = self.seen.get(file.name)
        return (
            known is not None
            and known["copy_of"] == file.copy_of
            and known["raw_key"] == self.key(file)
            and (known["rows"] == 0 or self.key(file) in self._raw_keys.get(file.arrived, ()))
        )

    @cached_property
    def _raw_keys(self) -> dict[date, set[str]]:
        return {day: {f.key for f in files} for day, files in self.raw.by_day.items()}

    def news(self, days: Collection[date] | None = None) -> list[LandedFile]:
        """Files that are new or changed, of the named days of arrival or of all."""
        return [
            f for f in self.files if (days is None or f.arrived in days) and not self.is_done(f)
        ]


def look(warehouse: Warehouse, feeds: Feeds, settings: Settings, kind: Kind) -> Landing:
    """Compare the landing zone with what was ingested."""
    register = warehouse.snapshot(tables.INGESTED_FILES)
    seen = {row["file"]: row for row in _rows(warehouse, register) if row["kind"] == kind}
    raw = warehouse.snapshot(RAW[kind])
    kept = {file.key.partition(".")[0]: file.day for file in raw.files}
    files = scan_landing(feeds, kind, settings.landing, settings.start_date, seen, kept)
    return Landing(kind, files, seen, raw, register, settings)


def _rows(warehouse: Warehouse, snapshot: Snapshot) -> list[dict[str, Any]]:
    with warehouse.connect() as connection:
        return snapshot.relation(connection).to_arrow_table().to_pylist()


def ingest(
    warehouse: Warehouse,
    feeds: Feeds,
    settings: Settings,
    kind: Kind,
    days: Collection[date],
    progress: Progress = lambda day: None,
) -> dict[date, list[dict[str, Any]]]:
    """Bring raw up to date with the files that arrived on ``days``.

    Days that were committed before an error stay.

    Returns:
        Rows of ``ingested_files`` a day, for all files of these days.
    """
    for _ in range(ATTEMPTS):
        landing = look(warehouse, feeds, settings, kind)
        try:
            _ingest_news(warehouse, landing, landing.news(days), progress)
            break
        except ConcurrentWrite:
            continue
    else:
        raise ConcurrentWrite(f"{RAW[kind].name}: other processes kept changing the same days")
    result: dict[date, list[dict[str, Any]]] = {day: [] for day in days}
    for row in _rows(warehouse, warehouse.snapshot(tables.INGESTED_FILES)):
        if row["kind"] == kind and row["day"] in result:
            result[row["day"]].append(row)
    return result


def _ingest_news(
    warehouse: Warehouse, landing: Landing, news: list[LandedFile], progress: Progress
) -> None:
    by_day: dict[date, list[LandedFile]] = defaultdict(list)
    for file in news:
        by_day[file.arrived].append(file)
    chunk: dict[date, list[LandedFile]] = {}
    with warehouse.connect() as connection:
        for day in sorted(by_day):
            chunk[day] = by_day[day]
            if sum(f.bytes for files in chunk.values() for f in files) >= BYTES_A_COMMIT:
                _commit_days(warehouse, connection, landing, chunk, progress)
                chunk = {}
        if chunk:
            _commit_days(warehouse, connection, landing, chunk, progress)


def _commit_days(
    warehouse: Warehouse,
    connection: "duckdb.DuckDBPyConnection",
    landing: Landing,
    chunk: Mapping[date, list[LandedFile]],
    progress: Progress,
) -> None:
    # a chunk before this one moved both tables on; days of this chunk are still as they were
    raw, register = warehouse.snapshot(landing.raw.table), warehouse.snapshot(tables.INGESTED_FILES)
    with warehouse.staging() as folder:
        to_read = {day: [f for f in files if not f.copy_of] for day, files in chunk.items()}
        staged = stage_files(
            connection, landing.settings, landing.kind, to_read, landing.key, folder, progress
        )
        entries = {
            day: [_entry(landing, file, staged.get(file.file_id, [])) for file in files]
            for day, files in chunk.items()
        }
        added = [one for of_file in staged.values() for one in of_file]
        removed = [
            held
            for day, files in chunk.items()
            for held in raw.by_day.get(day, [])
            if held.key.partition(".")[0] in {file.file_id for file in files}
        ]
        if added or removed:
            warehouse.commit(raw, added, removed, list(chunk))
        _register(warehouse, register, entries, folder)


def _entry(landing: Landing, file: LandedFile, staged: list[StagedFile]) -> dict[str, Any]:
    notes = []
    if not file.bytes:
        notes.append("the file is empty")
    elif not staged and not file.copy_of:
        notes.append("the file holds no record")
    return {
        "kind": landing.kind,
        "feed": file.feed.name,
        "region": file.feed.region,
        "file": file.name,
        "bytes": file.bytes,
        "modified_ns": file.modified_ns,
        "content_hash": file.content_hash,
        "raw_key": landing.key(file),
        "rows": sum(pq.read_metadata(s.path).num_rows for s in staged),
        "days": sorted({s.partition["happened_on"] for s in staged}),
        "copy_of": file.copy_of,
        "note": "; ".join(notes) or None,
        "day": file.arrived,
    }


def _register(
    warehouse: Warehouse,
    register: Snapshot,
    entries: Mapping[date, list[dict[str, Any]]],
    folder: Path,
) -> None:
    """Replace the register's days, keeping what it says of other files."""
    for _ in range(ATTEMPTS):
        kept = [r for r in _rows(warehouse, register) if r["day"] in entries]
        staged = []
        for day, rows in entries.items():
            fresh = {row["file"] for row in rows}
            every = [r for r in kept if r["day"] == day and r["file"] not in fresh] + rows
            path = folder / f"files-{day}.parquet"
            schema = register.table.file_schema
            pq.write_table(pa.Table.from_pylist(every, schema), path, compression="zstd")
            staged.append(StagedFile(path, {"day": day}, "files"))
        try:
            return warehouse.replace_days(register, staged, list(entries))
        except ConcurrentWrite:
            register = warehouse.snapshot(register.table)
    raise ConcurrentWrite("ingested_files: other processes kept changing the same days")
