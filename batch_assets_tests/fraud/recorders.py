"""Entries for the ledger, and what processes do that race to record them; these import this."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from itertools import count
from multiprocessing.synchronize import Barrier
from typing import Any

from batch_assets.engines.prices import Prices
from batch_assets.fraud.ledger import LedgerEntry, record
from batch_assets.inference.stats import EngineStats
from batch_assets.storage.warehouse import Warehouse

ASSET = "fraud_predictions"
EACH = 5
NO_PRICES = Prices()
_start: Barrier
_runs = count()
STATS = EngineStats(
    device="cpu",
    precision="fp32",
    compiled=False,
    threads=2,
    rows=1000,
    reused=100,
    read_seconds=0.25,
    compute_seconds=1.5,
    write_seconds=0.5,
    waiting_seconds=0.125,
    elapsed_seconds=2.0,
    batch_rows=1024,
    out_of_memory=1,
    bytes_read=4096,
    bytes_written=2048,
    peak_memory_bytes=10**9,
)


def entry(day: date = date(2026, 1, 1), run_id: str | None = None, **other: Any) -> LedgerEntry:
    """An attempt, by default of a run that did nothing else."""
    at = datetime(2026, 3, 10, 12, tzinfo=UTC)
    return LedgerEntry(ASSET, day, run_id or f"run {next(_runs)}", "local", at, STATS, **other)


def line_up(barrier: Barrier) -> None:
    """Keep the barrier at which all processes wait for each other."""
    global _start
    _start = barrier


def keep_recording(root: str, name: str, shared: Sequence[date]) -> None:
    """Record attempt after attempt at days that all processes work on."""
    _start.wait(timeout=120)
    for turn in range(EACH):
        assert record(Warehouse(root), NO_PRICES, [entry(day, f"{name}-{turn}") for day in shared])
