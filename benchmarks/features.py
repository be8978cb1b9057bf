"""Cost of the features: a long range, one more day, and a day of ten million rows.

Each measurement runs in a process of its own, so that its peak memory is its own.
"""

import json
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb

from batch_assets.fraud.features import LOOK_BACK_DAYS, DayRange, days_read
from batch_assets.fraud.sql import sql_text

FIRST_DAY = date(2018, 4, 1)
TOTALS = ("customer_days", "terminal_days", "terminal_frauds")
MEMORY_LIMIT, THREADS = "1GB", 2
Result = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """How much to synthesize; ``last_day_rows``: of the last day, if not as the others."""

    days: int
    rows_a_day: int
    customers: int
    terminals: int
    last_day_rows: int | None = None

    @property
    def last_day(self) -> date:
        return FIRST_DAY + timedelta(days=self.days - 1)


SIZES = {
    "handbook density": Size(183, 9_563, 5_000, 10_000),
    "high density": Size(LOOK_BACK_DAYS + 1, 300_000, 20_000, 10_000),
    "ten million": Size(LOOK_BACK_DAYS + 1, 50_000, 500_000, 50_000, 10_000_000),
}


def main() -> Result:
    """Measure all sizes: seconds (medians), resident bytes at the peak, rows read."""
    results: Result = {}
    with tempfile.TemporaryDirectory(prefix="features-") as folder:
        for name, size in SIZES.items():
            home = Path(folder) / name.replace(" ", "-")
            _in_own_process(_synthesize, home, size)
            results[name] = _measure(home, size)
        handbook = os.environ.get("BATCH_ASSETS_HANDBOOK")
        if handbook:
            home = Path(folder) / "handbook"
            days = _in_own_process(_take_handbook, home, Path(handbook))
            results["handbook"] = _measure(home, Size(days, 0, 0, 0), whole=True)
        else:
            results["handbook"] = "skipped: BATCH_ASSETS_HANDBOOK is not set"
    return results


def _measure(home: Path, size: Size, whole: bool = False) -> Result:
    found: Result = {"totals": _in_own_process(_write_totals, home, FIRST_DAY, size.last_day)}
    if size.last_day_rows:
        found["one day"] = _in_own_process(_time, home, size.last_day, size.last_day, False, 1)
        del found["one day"]["content"]
        return found
    if whole or size.days > 2 * LOOK_BACK_DAYS:
        found["range"] = _in_own_process(_time, home, FIRST_DAY, size.last_day, False, 3)
        del found["range"]["content"]
    one = _in_own_process(_time, home, size.last_day, size.last_day, False, 5)
    every = _in_own_process(_time, home, size.last_day, size.last_day, True, 3)
    if one.pop("content") != every.pop("content"):
        raise AssertionError(f"{home.name}: one day differs from reading all rows")
    found |= {"one day": one, "one day from all rows": every}
    for measure in ("seconds", "cpu_seconds"):
        found[f"times cheaper, {measure}"] = round(every[measure] / one[measure], 1)
    return found


def _in_own_process(function: Callable[..., Any], *arguments: object) -> Any:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def _time(home: Path, first: date, last: date, all_rows: bool, runs: int) -> Result:
    """Write the features of a range of days as Parquet, several times.

    With ``all_rows`` they are the end of a longer range: each row that they look back on is read
    and windowed, and of the totals only what tells how unusual a known fraud was.
    """
    sql, start = sql_text("transaction_features"), first
    read = days_read(first, last)
    if all_rows:
        start = first - timedelta(days=LOOK_BACK_DAYS)
        every = ((start, last),)
        read = {"clean_transactions": every, "customer_days": every, "terminal_frauds": every}
        sql = f"SELECT * FROM ({sql}) WHERE day BETWEEN '{first}' AND '{last}'"
    connection = _connect(home, read)
    walls, cpus = [], []
    target = home / f"features-{first}-{last}"
    for _ in range(runs):
        wall, cpu = time.perf_counter(), time.process_time()
        _copy(connection, sql, target, first, last, start)
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    content = connection.execute(
        "SELECT count(*), sum(hash(COLUMNS(*))) "
        "FROM read_parquet($files, hive_partitioning = true)",
        {"files": str(target / "*" / "*.parquet")},
    ).fetchone()
    assert content is not None
    rows = content[0]
    seconds = statistics.median(walls)
    return {
        "rows": rows,
        "seconds": round(seconds, 3),
        "cpu_seconds": round(statistics.median(cpus), 3),
        "rows_a_second": round(rows / seconds),
        "peak_rss_bytes": peak,
        "rows_read": {name: _count(connection, name, ranges) for name, ranges in read.items()},
        "content": content,
    }


def _count(connection: duckdb.DuckDBPyConnection, table: str, ranges: Sequence[DayRange]) -> int:
    found = 0
    for first, last in ranges:
        connection.execute(
            f"SELECT count(*) FROM {table} WHERE day BETWEEN $first AND $last",
            {"first": first, "last": last},
        )
        found += connection.fetchall()[0][0]
    return found


def _write_totals(home: Path, first: date, last: date) -> Result:
    seconds = {}
    for name in TOTALS:
        connection = _connect(home)
        start = time.perf_counter()
        _copy(connection, sql_text(name), home / name, first, last)
        seconds[name] = round(time.perf_counter() - start, 3)
    return seconds


def _connect(
    home: Path, read: Mapping[str, Sequence[DayRange]] | None = None
) -> duckdb.DuckDBPyConnection:
    """A connection with the tables as views of the days to read, all if none are named."""
    connection = duckdb.connect(
        config={
            "memory_limit": MEMORY_LIMIT,
            "threads": THREADS,
            "temp_directory": str(home / "spilled"),
        }
    )
    connection.execute("SET enable_progress_bar = false")
    for name in ("clean_transactions", "fraud_labels", *TOTALS):
        files = [
            str(path)
            for path in sorted((home / name).glob("*/*.parquet"))
            if read is None or _is_within(path, read.get(name, ()))
        ]
        files = files or [str(path) for path in (home / name).glob("*/*.parquet")][:1]
        if files:
            connection.read_parquet(files, hive_partitioning=True).create_view(name)
    return connection


def _is_within(path: Path, ranges: Sequence[DayRange]) -> bool:
    day = date.fromisoformat(path.parent.name.removeprefix("day="))
    return any(first <= day <= last for first, last in ranges)


def _copy(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    target: Path,
    first: date,
    last: date,
    start: date | None = None,
) -> None:
    """One day goes into one plain file, which DuckDB writes much faster than a partition."""
    options = "PARTITION_BY (day), OVERWRITE true"
    if first == last:
        target = target / f"day={last}" / "rows.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        sql, options = f"SELECT * EXCLUDE (day) FROM ({sql})", "COMPRESSION zstd"
    connection.execute(
        f"COPY ({sql}) TO '{target}' (FORMAT parquet, {options})",
        {"first_day": start or first, "last_day": last},
    )


def _synthesize(home: Path, size: Size) -> None:
    connection = duckdb.connect(config={"threads": THREADS})
    connection.execute("SET enable_progress_bar = false")
    connection.execute("SELECT setseed(0.5)")
    for number in range(size.days):
        day = FIRST_DAY + timedelta(days=number)
        rows = size.rows_a_day
        if day == size.last_day:
            rows = size.last_day_rows or rows
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE made AS SELECT "
            "$number::BIGINT * 100_000_000 + range AS transaction_id, "
            "floor(random() * $customers)::INTEGER AS customer_id, "
            "floor(random() * $terminals)::INTEGER AS terminal_id, "
            "$day::TIMESTAMP + to_seconds(floor(random() * 86_400)::INTEGER) AS tx_datetime, "
            "(random() * 200)::DECIMAL(18, 2) AS tx_amount, random() < 0.009 AS tx_fraud "
            "FROM range($rows)",
            {
                "number": number,
                "customers": size.customers,
                "terminals": size.terminals,
                "day": day,
                "rows": rows,
            },
        )
        _store_day(connection, home, day)


def _take_handbook(home: Path, folder: Path) -> int:
    """Days taken."""
    connection = duckdb.connect(config={"threads": THREADS})
    connection.execute("SET enable_progress_bar = false")
    files = sorted(folder.glob("*.parquet"))
    for path in files:
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE made AS SELECT transaction_id, customer_id, terminal_id, "
            "tx_datetime, tx_amount::DECIMAL(18, 2) AS tx_amount, tx_fraud = 1 AS tx_fraud "
            "FROM read_parquet($path)",
            {"path": str(path)},
        )
        _store_day(connection, home, date.fromisoformat(path.stem))
    return len(files)


def _store_day(connection: duckdb.DuckDBPyConnection, home: Path, day: date) -> None:
    selects = {
        "clean_transactions": "SELECT transaction_id::VARCHAR AS transaction_id, "
        "customer_id::VARCHAR AS customer_id, terminal_id::VARCHAR AS terminal_id, "
        "tx_datetime::TIMESTAMP AS happened_at, tx_datetime::TIMESTAMP AS local_time, "
        "tx_amount AS amount FROM made ORDER BY happened_at, transaction_id",
        "fraud_labels": "SELECT transaction_id::VARCHAR AS transaction_id, true AS is_fraud, "
        "tx_datetime::DATE + 7 AS known_on FROM made WHERE tx_fraud",
    }
    for table, select in selects.items():
        path = home / table / f"day={day}" / "rows.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        connection.execute(f"COPY ({select}) TO '{path}' (FORMAT parquet)")


if __name__ == "__main__":
    json.dump(main(), sys.stdout, indent=2, default=str)
    print()
