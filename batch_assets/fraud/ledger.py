"""What each attempt to score a day took: rows, seconds, memory, money.

The ledger is no table that can be built again, and no table that others are made from. Rows are
only ever added, and what goes wrong with it is a warning: it never stops the scoring.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal
from warnings import warn

import pyarrow as pa
import pyarrow.parquet as pq

from batch_assets.engines.gpu_meter import GpuUse
from batch_assets.engines.prices import Prices
from batch_assets.fraud.tables import INFERENCE_LEDGER
from batch_assets.inference.stats import EngineStats
from batch_assets.storage.tables import DAY
from batch_assets.storage.warehouse import (
    ConcurrentWrite,
    DataFile,
    Snapshot,
    StagedFile,
    Warehouse,
)

Outcome = Literal["done", "interrupted", "killed", "failed"]
Row = dict[str, Any]
KEY = "ledger"
"""In the names of its files; all alike, so that maintenance merges those of a day."""
TRIES = 50


@dataclass(frozen=True)
class LedgerEntry:
    """One attempt at one day of an asset.

    Args:
        engine: who ran the scoring engine: local, ray or spark.
        started_at: with its time zone.
        stats: of this attempt alone.
        rows_twice: rows that were computed although an earlier attempt had computed them.
        elapsed_seconds: how long it took, where several workers' seconds are added up in
            ``stats``; None takes what ``stats`` says.
        devices: held for that time: GPUs, or the one machine whose CPU is used; a share of one
            where runs share it.
        device_name: the GPU's name, by which it may have a price of its own.
        gpu: how it was used, where it is one and its driver tells.
    """

    asset: str
    day: date
    run_id: str
    engine: str
    started_at: datetime
    stats: EngineStats
    rows_twice: int = 0
    outcome: Outcome = "done"
    model_version: str = ""
    elapsed_seconds: float | None = None
    devices: float = 1
    device_name: str | None = None
    gpu: GpuUse | None = None


def record(warehouse: Warehouse, prices: Prices, attempts: Sequence[LedgerEntry]) -> bool:
    """Add attempts in one commit, each with the next number of its asset and day.

    One that is there already (same asset, day, run and start) is not added again. Processes may
    record at the same moment: no attempt is lost, and no number given twice.

    Returns:
        Whether it was written; if not, there was a warning that says why.
    """
    try:
        if attempts:
            _append(warehouse, prices, attempts)
    except Exception as error:  # the scores are there; what they cost matters less
        warn(f"{INFERENCE_LEDGER.name}: not recorded: {error}", RuntimeWarning, stacklevel=2)
        return False
    return True


def entries(warehouse: Warehouse, first: date, last: date) -> list[Row]:
    """Rows of some days, by day, asset and attempt; columns as in ``INFERENCE_LEDGER``."""
    snapshot = warehouse.snapshot(INFERENCE_LEDGER)
    files = [file for file in snapshot.files if first <= file.day <= last]
    return _rows(warehouse, snapshot, files)


def work_done_twice(warehouse: Warehouse, first: date, last: date) -> dict[date, int]:
    """Day -> rows that were computed although an attempt before had computed them, if any."""
    snapshot = warehouse.snapshot(INFERENCE_LEDGER)
    files = [file for file in snapshot.files if first <= file.day <= last]
    with warehouse.connect() as connection:
        twice = snapshot.relation(connection, files).filter("rows_twice > 0")
        rows = twice.aggregate("day, sum(rows_twice)::BIGINT").order("day").fetchall()
    return dict(rows)


def _append(warehouse: Warehouse, prices: Prices, attempts: Sequence[LedgerEntry]) -> None:
    for left in reversed(range(TRIES)):
        base = warehouse.snapshot(INFERENCE_LEDGER)
        known = _rows(warehouse, base, base.on({entry.day for entry in attempts}))
        rows = _new_rows(known, prices, attempts)
        with warehouse.staging() as folder:
            staged = [_staged(folder, day, of_day) for day, of_day in rows.items()]
            try:
                # each day is a transaction of its own: of two processes with the same number for
                # the same day, one is refused, and counts again
                return warehouse.commit(base, staged, [], rows) if rows else None
            except ConcurrentWrite:
                if not left:
                    raise


def _new_rows(
    known: Sequence[Row], prices: Prices, attempts: Sequence[LedgerEntry]
) -> dict[date, list[Row]]:
    """Rows to add to each day, numbered from where those that are known end."""
    identities = {_identity(row) for row in known}
    taken = Counter((row["asset"], row["day"]) for row in known)
    rows: dict[date, list[Row]] = defaultdict(list)
    for entry in attempts:
        row = _row(entry, taken[entry.asset, entry.day] + 1, prices)
        if _identity(row) not in identities:
            identities.add(_identity(row))
            taken[entry.asset, entry.day] += 1
            rows[entry.day].append(row)
    return rows


def _identity(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("asset", "day", "run_id", "started_at"))


def _rows(warehouse: Warehouse, snapshot: Snapshot, files: Collection[DataFile]) -> list[Row]:
    if not files:
        return []
    with warehouse.connect() as connection:
        found = snapshot.relation(connection, files).order("day, asset, attempt")
        return found.to_arrow_table().to_pylist()


def _staged(folder: Path, day: date, rows: Sequence[Row]) -> StagedFile:
    path = folder / f"{day}.parquet"
    schema = INFERENCE_LEDGER.file_schema
    pq.write_table(pa.Table.from_pylist(rows, schema), path, compression="zstd")
    return StagedFile(path, {DAY: day}, KEY)


def _row(entry: LedgerEntry, attempt: int, prices: Prices) -> Row:
    """All columns; those that both have by the same name come from the entry and its stats."""
    stats, gpu = entry.stats, entry.gpu
    elapsed = stats.elapsed_seconds if entry.elapsed_seconds is None else entry.elapsed_seconds
    name = entry.device_name or ""
    cost = prices.cost(stats.device, entry.started_at, elapsed, entry.devices, name)
    same_name = {
        column: getattr(source, column)
        for source in (entry, stats)
        for column in INFERENCE_LEDGER.columns
        if hasattr(source, column)
    }
    return {
        **same_name,
        "attempt": attempt,
        "started_at": entry.started_at.astimezone(UTC).replace(tzinfo=None),
        "rows_reused": stats.reused,
        "elapsed_seconds": elapsed,
        "device_seconds": elapsed * entry.devices,
        "gpu_utilisation": gpu.busy if gpu else None,
        "gpu_memory_bytes": gpu.peak_memory_bytes if gpu else None,
        "gpu_temperature": gpu.peak_celsius if gpu else None,
        "price_per_device_hour": cost.per_device_hour if cost else None,
        "price_kind": cost.kind if cost else None,
        "money": cost.money if cost else None,
        "currency": prices.currency if cost else None,
    }
