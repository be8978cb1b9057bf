"""What a person wants to see of a day beside its row count, for many days with one query each."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

import dagster as dg

from batch_assets.fraud import tables
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.fraud.plots import bar_plot
from batch_assets.fraud.sql import sql_text
from batch_assets.storage.tables import Table

DayMetadata = Callable[[date], dict[str, Any]]
ALERTS_SHOWN = 10


def _by_day(
    pipeline: Pipeline, sql_name: str, days: Sequence[date], *wanted: Table
) -> dict[date, list[dict[str, Any]]]:
    """Rows of a statement over some days of the named tables, by their ``day``."""
    rows: dict[date, list[dict[str, Any]]] = defaultdict(list)
    if days:
        state = pipeline.state()
        with pipeline.warehouse.connect() as connection:
            for table in wanted:
                snapshot = state.snapshot(table)
                snapshot.register(connection, snapshot.on(days))
            for row in connection.sql(sql_text(sql_name)).to_arrow_table().to_pylist():
                rows[row["day"]].append(row)
    return rows


def amounts_of_days(pipeline: Pipeline, days: Sequence[date]) -> DayMetadata:
    """Histogram of amounts, and totals by currency."""
    bars = _by_day(pipeline, "insight_amounts", days, tables.CLEAN_TRANSACTIONS)

    def of_day(day: date) -> dict[str, Any]:
        rows = bars.get(day, [])
        if not rows:
            return {}
        return {
            "amounts": bar_plot(
                f"transactions by amount, {pipeline.settings.currency}",
                [(row["bucket"], row["transactions"]) for row in rows],
            ),
            "amount_total": float(sum(row["total"] for row in rows)),
        }

    return of_day


def reasons_of_days(pipeline: Pipeline, days: Sequence[date]) -> DayMetadata:
    """The reasons of a day's quarantine, as a small table."""
    reasons = _by_day(pipeline, "insight_reasons", days, tables.QUARANTINED_TRANSACTIONS)
    columns = [
        dg.TableColumn("reason", "string"),
        dg.TableColumn("records", "int"),
        dg.TableColumn("example", "string"),
    ]

    def of_day(day: date) -> dict[str, Any]:
        rows = reasons.get(day, [])
        records = [
            dg.TableRecord({n: row[n] for n in ("reason", "records", "example")})
            for row in rows[:20]
        ]
        return {"reasons": dg.TableMetadataValue(records, dg.TableSchema(columns))} if rows else {}

    return of_day


def scores_of_days(pipeline: Pipeline, days: Sequence[date]) -> DayMetadata:
    """Histogram of scores; logarithmic, as nearly all are close to nought."""
    bars = _by_day(pipeline, "insight_scores", days, tables.FRAUD_PREDICTIONS)

    def of_day(day: date) -> dict[str, Any]:
        counts = {row["bucket"]: row["transactions"] for row in bars.get(day, [])}
        if not counts:
            return {}
        points = [(f"{i / 20:.2f}", float(counts.get(i, 0))) for i in range(20)]
        return {"scores": bar_plot("transactions by score (logarithmic)", points, log=True)}

    return of_day


def report_of_days(pipeline: Pipeline, days: Sequence[date]) -> DayMetadata:
    """The riskiest customers."""
    riskiest = _by_day(pipeline, "insight_report", days, tables.DAILY_RISK_REPORT)
    names = ("rank", "customer_id", "max_score", "tx_count", "transaction_id", "reasons")
    kinds = ("int", "string", "float", "int", "string", "string")
    schema = dg.TableSchema([dg.TableColumn(n, k) for n, k in zip(names, kinds, strict=True)])

    def of_day(day: date) -> dict[str, Any]:
        records = [
            dg.TableRecord({n: row[n] for n in names} | _readable(row))
            for row in riskiest.get(day, [])
        ]
        return {"riskiest_customers": dg.TableMetadataValue(records, schema)} if records else {}

    return of_day


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    return {"max_score": round(row["max_score"], 4), "reasons": "; ".join(row["reasons"] or [])}
