"""Landing files as Parquet files of a raw table, written but not yet committed.

Several files of a feed go through one statement, since DuckDB takes longer to plan it than to
read a small file.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from batch_assets.fraud.currencies import CURRENCIES
from batch_assets.fraud.feeds import COLUMNS_NEEDED, Feed, Kind
from batch_assets.fraud.landing import LandedFile
from batch_assets.fraud.readers import SCHEMA, read_records
from batch_assets.fraud.sql import sql_text
from batch_assets.settings import Settings
from batch_assets.storage.warehouse import StagedFile

if TYPE_CHECKING:
    import duckdb

FILES_A_STATEMENT = 32
BYTES_A_STATEMENT = 16 << 20
_TEXT = pa.dictionary(pa.int8(), pa.string())
_ORIGIN = {"file_id": _TEXT, "file": _TEXT, "arrived": pa.dictionary(pa.int8(), pa.date32())}
RECORDS = pa.schema([*SCHEMA, *(pa.field(name, kind) for name, kind in _ORIGIN.items())])


def stage_files(
    connection: "duckdb.DuckDBPyConnection",
    settings: Settings,
    kind: Kind,
    by_day: Mapping[date, Sequence[LandedFile]],
    key: Callable[[LandedFile], str],
    folder: Path,
    progress: Callable[[date], None],
) -> dict[str, list[StagedFile]]:
    """Read all files.

    Args:
        by_day: day of arrival -> files of one kind.
        key: name under which raw is to keep a file.
        progress: called with each day of arrival that is read.

    Returns:
        File id -> its staged files; none for a file without a record.
    """
    staged: dict[str, list[StagedFile]] = defaultdict(list)
    for days in _portions(by_day):
        files = [file for day in days for file in by_day[day]]
        for group in _groups(files):
            target = folder / f"{group[0].file_id}-{group[0].arrived}"
            _copy(connection, settings, kind, group, target)
            by_id = {file.file_id: file for file in group}
            for path in sorted(target.rglob("*.parquet")):
                partition = dict(part.split("=", 1) for part in path.relative_to(target).parts[:-1])
                file_id = partition.pop("file_id")
                days_of_file = {n: date.fromisoformat(text) for n, text in partition.items()}
                staged[file_id].append(StagedFile(path, days_of_file, key(by_id[file_id])))
        for day in days:
            progress(day)
    return staged


def _portions(by_day: Mapping[date, Sequence[LandedFile]]) -> Iterator[list[date]]:
    """Days in a row that together fill a few statements, so that progress is seen."""
    days: list[date] = []
    for day in by_day:
        days.append(day)
        if _is_full([file for d in days for file in by_day[d]]):
            yield days
            days = []
    if days:
        yield days


def _groups(files: Sequence[LandedFile]) -> Iterator[list[LandedFile]]:
    """Files of one feed that are read by one statement."""
    by_feed: dict[str, list[LandedFile]] = defaultdict(list)
    for file in files:
        group = by_feed[file.feed.name]
        group.append(file)
        if _is_full(group):
            yield by_feed.pop(file.feed.name)
    yield from by_feed.values()


def _is_full(files: Sequence[LandedFile]) -> bool:
    return len(files) >= FILES_A_STATEMENT or sum(f.bytes for f in files) >= BYTES_A_STATEMENT


def _copy(
    connection: "duckdb.DuckDBPyConnection",
    settings: Settings,
    kind: Kind,
    files: Sequence[LandedFile],
    target: Path,
) -> None:
    records = pa.RecordBatchReader.from_batches(RECORDS, _records(files))
    connection.register("records", records)
    quoted = str(target).replace("'", "''")
    connection.execute(
        f"COPY ({sql_text('ingest')}) TO '{quoted}' (FORMAT parquet, COMPRESSION zstd, "
        "PARTITION_BY (file_id, day, happened_on), OVERWRITE_OR_IGNORE)",
        parameters(files[0].feed, settings, kind),
    )
    connection.unregister("records")


def _records(files: Sequence[LandedFile]) -> Iterator[pa.RecordBatch]:
    """Records of all files, each with the file that it is of."""
    for file in files:
        origin = (file.file_id, file.name, file.arrived)
        values = [
            pa.array([value], kind.value_type)
            for value, kind in zip(origin, _ORIGIN.values(), strict=True)
        ]
        for batch in read_records(file.feed, file.path):
            same = pa.repeat(pa.scalar(0, pa.int8()), batch.num_rows)
            columns = [pa.DictionaryArray.from_arrays(same, one) for one in values]
            yield pa.RecordBatch.from_arrays([*batch.columns, *columns], schema=RECORDS)


def parameters(feed: Feed, settings: Settings, kind: Kind) -> dict[str, Any]:
    """Parameters of the statement, the same for all files of a feed."""
    thousands = "," if feed.decimal == "." else "."
    point, comma = (f"[{mark}]" for mark in (feed.decimal, thousands))
    whole = rf"-?(\d{{1,3}}({comma}\d{{3}})+|\d+)"
    needed = list(COLUMNS_NEEDED[kind])
    if kind == "transactions":
        needed.append("currency")
    return {
        "feed": feed.name,
        "region": feed.region,
        "prefix": feed.prefix,
        "currency": feed.currency,
        "decimal": feed.decimal,
        "thousands": thousands,
        "number_pattern": rf"{whole}({point}\d{{1,4}})?",
        "rate_pattern": rf"{whole}({point}\d{{1,10}})?",
        "time_format": feed.time_format,
        "time_zone": feed.time_zone,
        "ambiguous_time": feed.ambiguous_time,
        "first_day": settings.start_date,
        "tolerance_days": settings.future_tolerance_days,
        "needed": needed,
        "known_currencies": list(CURRENCIES),
    }
