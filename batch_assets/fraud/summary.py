"""What a run made of its days, in numbers and in words."""

from typing import Any

from batch_assets import progress
from batch_assets.fraud import tables
from batch_assets.fraud.keys import days_between
from batch_assets.fraud.ledger import work_done_twice
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.fraud.run import RunSummary
from batch_assets.storage.tables import Table


def summarise(pipeline: Pipeline, done: RunSummary) -> dict[str, Any]:
    """Rows in, clean, quarantined, duplicate, scored; model; days repaired."""
    state = pipeline.state()
    days = days_between(done.first_day, done.last_day)

    def rows(table: Table) -> int:
        return state.snapshot(table).rows(days)

    raw = sum(f.rows for d in days for f in state.raw_transactions.get(d, []))
    summary: dict[str, Any] = {
        "first_day": done.first_day,
        "last_day": done.last_day,
        "days": len(days),
        "rows_in": raw,
        "clean": rows(tables.CLEAN_TRANSACTIONS),
        "quarantined": rows(tables.QUARANTINED_TRANSACTIONS),
        "duplicate": rows(tables.DUPLICATE_TRANSACTIONS),
        "scored": rows(tables.FRAUD_PREDICTIONS),
        "rows_computed_twice": sum(
            work_done_twice(pipeline.warehouse, done.first_day, done.last_day).values()
        ),
        "scored_rows_per_second": progress.rows_per_second("scored"),
        "model_version": state.model_version,
        "trained_model": done.trained,
        "repaired_days": done.repaired,
        "runs": done.run_ids,
    }
    summary["text"] = _text(summary)
    return summary


def _text(summary: dict[str, Any]) -> list[str]:
    lines = [
        f"{summary['first_day']} to {summary['last_day']}: "
        f"{summary['rows_in']:,} rows in = {summary['clean']:,} clean "
        f"+ {summary['quarantined']:,} quarantined + {summary['duplicate']:,} duplicate"
    ]
    if summary["trained_model"]:
        lines.append(f"trained a first model, {summary['trained_model']}")
    rate = summary["scored_rows_per_second"]
    lines.append(
        f"{summary['scored']:,} transactions are scored"
        + (f", {rate:,.0f} rows a second" if rate else "; nothing had to be scored anew")
    )
    if summary["rows_computed_twice"]:
        lines.append(
            f"after interruptions, {summary['rows_computed_twice']:,} rows of these days "
            "were computed twice"
        )
    if summary["repaired_days"]:
        repaired = summary["repaired_days"]
        lines.append(
            f"late rows changed {len(repaired)} days outside of the range, "
            f"{repaired[0]} to {repaired[-1]}: built again"
        )
    return lines
