"""What was measured of scores and features, read back."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

import dagster as dg

from batch_assets.fraud import tables
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.fraud.prediction_quality import HISTORY_DAYS, quality_of_days

SHOWN = ("feature", "psi", "missing_share", "trained_missing_share", "moved")
MOST_DRIFTED = 10
Row = dict[str, Any]


def quality_and_drift(
    pipeline: Pipeline, first: date | None = None, last: date | None = None
) -> dict[str, Any]:
    """What was measured from first to last, and how far the newest day of them has drifted.

    Returns:
        ``quality``: rows of ``prediction_quality``; ``drift``: rows of ``feature_drift``, the
        greatest drift first; ``drift_warn``, ``drift_fail``: the settings.
    """
    scored = pipeline.warehouse.snapshot(tables.PREDICTION_QUALITY).by_day
    last = last or max(scored, default=date.min)
    first = first or date.fromordinal(max(last.toordinal() - HISTORY_DAYS + 1, 1))
    return {
        "quality": quality_of_days(pipeline, first, last),
        "drift": drift_of_day(pipeline, newest_drift_day(pipeline, first, last)),
        "drift_warn": pipeline.settings.drift_warn,
        "drift_fail": pipeline.settings.drift_fail,
    }


def newest_drift_day(pipeline: Pipeline, first: date, last: date) -> date | None:
    """The newest day from first to last with rows in ``feature_drift``."""
    snapshot = pipeline.warehouse.snapshot(tables.FEATURE_DRIFT)
    return max(
        (d for d in snapshot.by_day if first <= d <= last and snapshot.rows([d])), default=None
    )


def drift_of_day(pipeline: Pipeline, day: date | None) -> list[Row]:
    """Rows of ``feature_drift`` of a day, the greatest drift first."""
    return _drift_rows(pipeline, [day] if day else [])


def _drift_rows(pipeline: Pipeline, days: Sequence[date]) -> list[Row]:
    snapshot = pipeline.warehouse.snapshot(tables.FEATURE_DRIFT)
    with pipeline.warehouse.connect() as connection:
        rows = snapshot.relation(connection, snapshot.on(days))
        return rows.order("psi DESC NULLS LAST, feature").to_arrow_table().to_pylist()


def show_drift(pipeline: Pipeline, days: Sequence[date]) -> Callable[[date], dict[str, Any]]:
    """What to show of a day of ``feature_drift``: the rows with the greatest drift."""
    by_day: dict[date, list[Row]] = defaultdict(list)
    for row in _drift_rows(pipeline, days):
        by_day[row["day"]].append(row)

    def of_day(day: date) -> dict[str, Any]:
        judged = [row for row in by_day[day] if row["psi"] is not None]
        others = [row["feature"] for row in by_day[day] if row["psi"] is None]
        counts = {"compared": len(judged), "not_compared": ", ".join(others) or "none"}
        if not judged:
            return counts
        greatest = {"greatest_psi": judged[0]["psi"], "greatest_psi_of": judged[0]["feature"]}
        return {**counts, **greatest, "most_drifted": drift_table(judged[:MOST_DRIFTED])}

    return of_day


def drift_table(rows: Sequence[Row]) -> dg.TableMetadataValue:
    """Rows of ``feature_drift`` as Dagster shows them."""
    columns = [dg.TableColumn(name, "string") for name in SHOWN]
    records = [dg.TableRecord({name: _text(row[name]) for name in SHOWN}) for row in rows]
    return dg.TableMetadataValue(records, dg.TableSchema(columns))


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)
