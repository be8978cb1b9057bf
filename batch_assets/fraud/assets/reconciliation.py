"""Real-time scores beside those of the batch, and a check that warns when they drift apart."""

from collections.abc import Sequence
from datetime import date
from typing import Any

import dagster as dg

from batch_assets.fraud import tables
from batch_assets.fraud.assets.common import (
    DayMetadata,
    Lineage,
    build_days,
    pipeline_of,
    table_metadata,
    table_spec,
)
from batch_assets.fraud.build import Built
from batch_assets.fraud.landing import digest
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.fraud.reconciliation import (
    TABLE,
    TOLERANCE,
    differences,
    realtime_file,
    reconcile,
)
from batch_assets.fraud.sql import sql_text
from batch_assets.partitions import DAILY, days_of
from batch_assets.storage.resources import WarehouseResource

MOST_DIFFERENT = 0.05
"""Share of the transactions scored by one model that may differ before there is a warning."""
NEWEST_DAYS = 30
_BATCH = {"batch_score": "score", "batch_amount": "amount", "batch_model_version": "model_version"}
_FROM: Lineage = {
    **{name: [] for name in TABLE.columns},
    **{name: [(tables.FRAUD_PREDICTIONS.name, of)] for name, of in _BATCH.items()},
    **{
        name: [(tables.FRAUD_PREDICTIONS.name, "score")]
        for name in ("difference", "status", "what_differs")
    },
}


@dg.multi_asset(
    name=TABLE.name,
    specs=[
        table_spec(
            TABLE,
            "monitoring",
            [tables.FRAUD_PREDICTIONS.name],
            digest(sql_text(TABLE.name))[:8],
            _FROM,
        )
    ],
    partitions_def=DAILY,
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def realtime_reconciliation(context: dg.AssetExecutionContext, warehouse: WarehouseResource):  # type: ignore[no-untyped-def]
    with pipeline_of(warehouse) as pipeline:
        if not realtime_file(pipeline.settings.home).exists():
            context.log.info("no server has scored anything in real time: nothing to compare")

        def work(days: list[date], built: Built) -> None:
            reconcile(pipeline, days, built)

        build_days(context, work, lambda name, days: _metadata(pipeline, days))


@dg.asset_check(
    asset=TABLE.name,
    description="Of the days of the run: at most 5 % of the real-time scores differ from those of "
    "the same model in the batch by more than 1e-6. Warns; stops nothing.",
)
def realtime_agrees_with_the_batch(
    context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource
) -> dg.AssetCheckResult:
    with pipeline_of(warehouse) as pipeline:
        return agreement(list(differences(pipeline, _days(context, pipeline)).values()))


def agreement(found: Sequence[dict[str, Any]]) -> dg.AssetCheckResult:
    """Whether real time and batch agree on some days; those of other models do not count."""
    total = {
        name: sum(row[name] for row in found)
        for name in ("transactions", "agreed", "differ", "missing", "other_model")
    }
    same_model = total["agreed"] + total["differ"] - total["other_model"]
    different = total["differ"] - total["other_model"]
    share = different / same_model if same_model else 0.0
    return dg.AssetCheckResult(
        passed=share <= MOST_DIFFERENT,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{different:,} of {same_model:,} scores of the same model differ by more than "
        f"{TOLERANCE:g}"
        if same_model
        else "nothing was scored in real time by the model of the batch",
        metadata={
            **total,
            "share_that_differs": share,
            "largest_difference": max((row["largest_difference"] for row in found), default=0.0),
        },
    )


CHECKS = [realtime_agrees_with_the_batch]


def _days(context: dg.AssetCheckExecutionContext, pipeline: Pipeline) -> list[date]:
    if context.has_partition_key_range or context.has_partition_key:
        return days_of(context.partition_keys)
    return sorted(pipeline.warehouse.snapshot(TABLE).by_day)[-NEWEST_DAYS:]


def _metadata(pipeline: Pipeline, days: list[date]) -> DayMetadata:
    found = differences(pipeline, days)
    plain = table_metadata(pipeline.warehouse.snapshot(TABLE))

    def of_day(day: date) -> dict[str, Any]:
        counts = {name: value for name, value in found.get(day, {}).items() if name != "day"}
        return {**plain(day), **(counts or {"transactions": 0})}

    return of_day
