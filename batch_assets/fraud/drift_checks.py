"""Asset checks that say which feature is no longer as on the days that the model learned from."""

from collections.abc import Callable, Sequence
from datetime import date

import dagster as dg

from batch_assets.fraud.assets.common import pipeline_of
from batch_assets.fraud.drift import NOT_COMPARED, SCORE
from batch_assets.fraud.monitoring import Row, drift_of_day, drift_table, newest_drift_day
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.partitions import days_of
from batch_assets.settings import Settings
from batch_assets.storage.resources import WarehouseResource

MOST_SHOWN = 50
YOUNG = (
    "with more days to look back on than there were on the training days, or are now; train again "
    "once there are more"
)


@dg.asset_check(
    asset="transaction_features",
    additional_deps=["feature_drift"],
    description="Of the newest day of the run: the model's inputs are spread as on its training "
    "days. Warns, or fails, from drift_warn and drift_fail on; stops nothing.",
)
def features_are_as_in_training(
    context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource
) -> dg.AssetCheckResult:
    """Names each input that has drifted."""
    return _of_newest_day(context, warehouse, lambda feature: feature != SCORE)


@dg.asset_check(
    asset="fraud_predictions",
    additional_deps=["feature_drift"],
    description="Of the newest day of the run: the scores are spread as on the training days. "
    "Warns, or fails, from drift_warn and drift_fail on; stops nothing.",
)
def scores_are_as_in_training(
    context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource
) -> dg.AssetCheckResult:
    """Says how far the score has drifted."""
    return _of_newest_day(context, warehouse, lambda feature: feature == SCORE)


DRIFT_CHECKS = [features_are_as_in_training, scores_are_as_in_training]


def _of_newest_day(
    context: dg.AssetCheckExecutionContext,
    warehouse: WarehouseResource,
    wanted: Callable[[str], bool],
) -> dg.AssetCheckResult:
    with pipeline_of(warehouse) as pipeline:
        day = _newest_day(context, pipeline)
        rows = [row for row in drift_of_day(pipeline, day) if wanted(row["feature"])]
        return drift_result(rows, day, pipeline.settings)


def _newest_day(context: dg.AssetCheckExecutionContext, pipeline: Pipeline) -> date | None:
    if context.has_partition_key_range or context.has_partition_key:
        return max(days_of(context.partition_keys))
    return newest_drift_day(pipeline, date.min, date.max)


def drift_result(rows: Sequence[Row], day: date | None, settings: Settings) -> dg.AssetCheckResult:
    """Passed below ``drift_warn``; else a warning, and from ``drift_fail`` on an error."""
    judged = [row for row in rows if row["psi"] is not None]
    drifted = [row for row in judged if row["psi"] >= settings.drift_warn]
    failed = any(row["psi"] >= settings.drift_fail for row in judged)
    young = [row["feature"] for row in rows if (row["moved"] or "").startswith(NOT_COMPARED)]
    if drifted:
        psi = ", ".join(f"{row['feature']} {row['psi']:.2f}" for row in drifted)
        what = f"population stability index against the training days: {psi}"
    elif judged:
        what = "as on the training days"
    else:
        what = "not compared: too few rows, or no training days of the model with this weekday"
    if young:
        left_out = f"not compared ({YOUNG}): {', '.join(young)}"
        what = f"{what}; {left_out}" if len(young) < len(rows) else left_out
    return dg.AssetCheckResult(
        passed=not drifted,
        severity=dg.AssetCheckSeverity.ERROR if failed else dg.AssetCheckSeverity.WARN,
        description=what,
        metadata={
            "day": str(day or "none"),
            "compared": len(judged),
            "not_compared": ", ".join(r["feature"] for r in rows if r["psi"] is None) or "none",
            "drifted": ", ".join(row["feature"] for row in drifted) or "none",
            "drift": drift_table(rows[:MOST_SHOWN]),
        },
    )
