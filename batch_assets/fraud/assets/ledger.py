"""The ledger as an asset, and what it says of a day, for the UI."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

from batch_assets.fraud import tables
from batch_assets.fraud.assets.common import DayMetadata, table_spec
from batch_assets.fraud.ledger import Row, entries
from batch_assets.fraud.plots import bar_plot, line_plot
from batch_assets.storage.warehouse import Warehouse

HISTORY_DAYS = 30
STAGES = ("read", "compute", "write", "waiting")
_FROM = {
    "day": [("fraud_predictions", "day")],
    "rows": [("fraud_predictions", "transaction_id")],
    "model_version": [("fraud_predictions", "model_version")],
}
LEDGER_SPEC = table_spec(
    tables.INFERENCE_LEDGER,
    "predictions",
    ["fraud_predictions"],
    "1",
    {column: _FROM.get(column, []) for column in tables.INFERENCE_LEDGER.columns},
    kinds=frozenset({"deltalake"}),
)


def ledger_of_days(warehouse: Warehouse, days: Sequence[date], asset: str) -> DayMetadata:
    """Time, memory, money and work done twice of an asset's days, with plots."""
    first = min(days, default=date.max) - timedelta(days=HISTORY_DAYS)
    found = entries(warehouse, first, max(days, default=date.min))
    rows = [row for row in found if row["asset"] == asset]

    def of_day(day: date) -> dict[str, Any]:
        since = day - timedelta(days=HISTORY_DAYS)
        history = [row for row in rows if since < row["day"] <= day]
        return ledger_metadata([row for row in rows if row["day"] == day], history)

    return of_day


def ledger_metadata(attempts: Sequence[Row], history: Sequence[Row]) -> dict[str, Any]:
    """What the attempts at a day took; nothing if there was none.

    Args:
        attempts: the day's rows of the ledger, in order.
        history: those of the days up to it, for the plot.
    """
    if not attempts:
        return {}
    last = attempts[-1]
    seconds = {stage: sum(row[f"{stage}_seconds"] for row in attempts) for stage in STAGES}
    shown: dict[str, Any] = {
        "attempts": len(attempts),
        "outcome": last["outcome"],
        "engine": last["engine"],
        "rows_per_second": _speed(last),
        "rows_reused": last["rows_reused"],
        "rows_computed_twice": sum(row["rows_twice"] for row in attempts),
        "device_seconds": sum(row["device_seconds"] for row in attempts),
        **{f"{stage}_seconds": value for stage, value in seconds.items()},
        "batch_rows": last["batch_rows"],
        "precision": last["precision"],
        "peak_memory_bytes": max(row["peak_memory_bytes"] for row in attempts),
        "out_of_memory": sum(row["out_of_memory"] for row in attempts),
        "seconds_by_stage": bar_plot("seconds by stage", list(seconds.items())),
    }
    if all(row["money"] is not None for row in attempts):
        shown[f"cost_{last['currency']}"] = sum(row["money"] for row in attempts)
    newest = {row["day"]: row for row in history if row["outcome"] == "done"}
    if newest:
        points = [(f"{day:%m-%d}", _speed(row)) for day, row in sorted(newest.items())]
        shown["speed"] = line_plot("rows a second, last attempt of each day", points)
    return shown


def _speed(row: Row) -> float:
    return float(row["rows"] / row["elapsed_seconds"]) if row["elapsed_seconds"] else 0.0
