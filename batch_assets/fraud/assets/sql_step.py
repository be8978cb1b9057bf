"""An asset for each table of a step that is plain SQL."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

import dagster as dg

from batch_assets.fraud.assets.common import (
    DayMetadata,
    Lineage,
    build_days,
    pipeline_of,
    step_metadata,
    table_spec,
)
from batch_assets.fraud.keys import Step
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.partitions import DAILY
from batch_assets.storage.resources import WarehouseResource

Insight = Callable[[Pipeline, Sequence[date]], DayMetadata]


def sql_step_asset(
    step: Step,
    group: str,
    deps: Sequence[str],
    lineage: Mapping[str, Lineage],
    insight: Mapping[str, Insight] | None = None,
) -> dg.AssetsDefinition:
    """The assets of a step, built together.

    Args:
        lineage: table -> its columns' sources.
        insight: table -> what more to show of its days.
    """

    @dg.multi_asset(
        name=f"{step.name}_step" if len(step.tables) > 1 else step.name,
        specs=[
            table_spec(table, group, deps, step.version, lineage.get(table.name))
            for table in step.tables
        ],
        partitions_def=DAILY,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def assets(context: dg.AssetExecutionContext, warehouse: WarehouseResource):  # type: ignore[no-untyped-def]
        with pipeline_of(warehouse) as pipeline:
            basic = step_metadata(pipeline, step)

            def metadata(name: str, days: list[date]) -> DayMetadata:
                plain = basic(name, days)
                more = (insight or {}).get(name, _nothing)(pipeline, days)
                return lambda day: {**plain(day), **more(day)}

            build_days(context, lambda days, built: _build(pipeline, step, days, built), metadata)

    return assets


def _build(pipeline: Pipeline, step: Step, days: list[date], built: Any) -> None:
    pipeline.build(step, days, built)


def _nothing(pipeline: Pipeline, days: Sequence[date]) -> DayMetadata:
    return lambda day: {}
