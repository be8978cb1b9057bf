"""What each attempt to score a day took: rows, seconds, memory, money.

The ledger is no table that can be built again, and no table that others are made from. Rows are
only ever added, and what goes wrong with it is a warning: it never stops the scoring.
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal, Protocol
from warnings import warn

import pyarrow as pa
import pyarrow.parquet as pq

from batch_assets.engines.prices import Prices
from batch_assets.fraud.sql import sql_text
from batch_assets.fraud.tables import INFERENCE_LEDGER
from batch_assets.inference.stats import EngineStats
from batch_assets.storage.warehouse import ConcurrentWrite, Snapshot, StagedFile, Warehouse

Outcome = Literal["done", "interrupted", "failed"]
Row = dict[str, Any]
KEY = "ledger"
"""In the names of its files; all alike, so that maintenance merges those of a day."""
ATTEMPTS = 50


class GpuSample(Protocol):
    """How a GPU looked while it worked."""

    @property
    def name(self) -> str: ...
    @property
    def utilisation(self) -> float: ...
    @property
    def memory_bytes(self) -> int: ...
    @property
    def temperature(self) -> float: ...


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
        gpu: a sample of the device's state, where it is a GPU.
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
    gpu: GpuSample | None = None


def record(warehouse: Warehouse, prices: Prices, entries: Sequence[LedgerEntry]) -> bool:
    """Add entries in one commit, each with the next number of its asset and day.

    Processes may do so at the same moment: no entry is lost, and no number given twice.

    Returns:
        Whether it was written; if not, there was a warning that says why.
    """
    try:
        if entries:
            _append(warehouse, prices, entries)
    except Exception as error:  # the scores are there; what they cost matters less
        warn(f"{INFERENCE_LEDGER.name}: not recorded: {error}", RuntimeWarning, stacklevel=2)
        return False
    return True


def entries(warehouse: Warehouse, first: date, last: date) -> list[Row]:
    """Rows of some days, by day, asset and attempt; columns as in ``INFERENCE_LEDGER``."""
    return _query(warehouse, "ledger_entries", first, last)


def work_done_twice(warehouse: Warehouse, first: date, last: date) -> int:
    """Rows that were computed again although an attempt before had computed them."""
    return sum(row["rows_twice"] for row in entries(warehouse, first, last))


def _query(warehouse: Warehouse, sql_name: str, first: date, last: date) -> list[Row]:
    raise NotImplementedError


def _append(warehouse: Warehouse, prices: Prices, entries: Sequence[LedgerEntry]) -> None:
    raise NotImplementedError
