"""Assets of the SQL files of features of one's own, a table and a check each.

The files are those of the data home when the code location is loaded; what stands in them is read
anew by each run.
"""

import re
from datetime import date
from functools import partial
from typing import Any

import dagster as dg

from batch_assets.fraud import tables
from batch_assets.fraud.assets.common import (
    DayMetadata,
    Lineage,
    build_days,
    pipeline_of,
    same_columns,
    table_metadata,
    table_spec,
)
from batch_assets.fraud.build import Built
from batch_assets.fraud.checks import days_to_check, result
from batch_assets.fraud.own_check import foreseen, in_words, sampled_days, stored_columns
from batch_assets.fraud.own_features import OwnStep, own_step, own_table
from batch_assets.fraud.own_files import INPUTS, OWN, OwnFeatureError, OwnFile, own_files
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.partitions import DAILY
from batch_assets.settings import data_home
from batch_assets.storage.resources import WarehouseResource

GROUP = "features"
CHECK = "own_features_do_not_look_ahead"


def own_asset(file: OwnFile) -> dg.AssetsDefinition:
    """The table of a file; of one that cannot be used, an asset that fails and says why."""
    table = own_table(file)
    version = "broken" if file.problem else own_step(file).version
    deps = dict.fromkeys([*file.reads, tables.CLEAN_TRANSACTIONS.name])

    @dg.multi_asset(
        name=table.name,
        specs=[table_spec(table, GROUP, list(deps), version, _lineage(file))],
        partitions_def=DAILY,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def asset(context: dg.AssetExecutionContext, warehouse: WarehouseResource):  # type: ignore[no-untyped-def]
        with pipeline_of(warehouse) as pipeline:
            step = _step_now(pipeline, file)

            def metadata(name: str, days: list[date]) -> DayMetadata:
                return table_metadata(pipeline.warehouse.snapshot(step.table))

            build_days(context, partial(_build, pipeline, step), metadata)

    return asset


def _build(pipeline: Pipeline, step: OwnStep, days: list[date], built: Built) -> None:
    pipeline.build(step, days, built)


def own_check(file: OwnFile) -> dg.AssetChecksDefinition:
    """The file's look-ahead check."""

    @dg.asset_check(asset=f"{OWN}{file.name}", name=CHECK, blocking=True)
    def check(
        context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource
    ) -> dg.AssetCheckResult:
        """A sample of each day, computed again from what was known at that moment alone."""
        with pipeline_of(warehouse) as pipeline:
            days, state = days_to_check(context, pipeline), pipeline.state()
            step = _step_now(pipeline, file)
            steady = [d for d in days if state.recorded(step, d) == state.key(step, d)]
            wrong: list[dict[str, Any]] = []
            for day in sampled_days(steady):
                wrong += foreseen(state, step, day, stored_columns(state, step, day))
        what = in_words(wrong) or "each value is made of what was known at that moment"
        return result(wrong, what, days, set(days) - set(steady))

    return check


def _step_now(pipeline: Pipeline, file: OwnFile) -> OwnStep:
    if step := pipeline.own.get(f"{OWN}{file.name}"):
        return step
    problems = [f.problem for f in own_files(pipeline.settings.home) if f.path == file.path]
    raise OwnFeatureError(
        problems[0]
        if problems
        else f"{file.path} is gone: reload the definitions, and its asset is gone, too"
    )


def _lineage(file: OwnFile) -> Lineage:
    """Each feature is taken to be made of all columns of its inputs that the file names."""
    words = set(re.findall(r"\w+", file.select))
    named = [(read, c) for read in file.reads for c in INPUTS[read].columns if c in words]
    clean = same_columns(own_table(file), tables.CLEAN_TRANSACTIONS)
    return {**clean, **dict.fromkeys(file.features, named)}


FILES = own_files(data_home())
ASSETS = [own_asset(file) for file in FILES]
CHECKS = [own_check(file) for file in FILES if not file.problem]
USED = [f"{OWN}{file.name}" for file in FILES if not file.problem]
"""Assets that models can read; one that is broken holds up nothing."""
COLUMNS = [(f"{OWN}{file.name}", column) for file in FILES for column in file.features]
