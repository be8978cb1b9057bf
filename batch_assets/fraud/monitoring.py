"""What was measured of scores and features, read back."""

from datetime import date
from typing import Any

from batch_assets.fraud import tables
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.fraud.prediction_quality import HISTORY_DAYS, quality_of_days

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
    snapshot = pipeline.warehouse.snapshot(tables.FEATURE_DRIFT)
    files = snapshot.on([day] if day else [])
    with pipeline.warehouse.connect() as connection:
        rows = snapshot.relation(connection, files).order("psi DESC NULLS LAST, feature")
        return rows.to_arrow_table().to_pylist()
