"""Runs the real jobs over a test's data home."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq

from batch_assets.definitions import defs
from batch_assets.engines.gpu import GPU
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.fraud.run_requests import RANGE_END, RANGE_START, RUN_KEY, range_tags
from batch_assets.storage.resources import ModelStoreResource, WarehouseResource
from batch_assets.storage.tables import Table
from batch_assets.storage.vectors.resource import LanceDBResource


def resources(home: Path) -> dict[str, Any]:
    """The resources of another home than the one that Dagster's definitions were loaded with."""
    return {
        "warehouse": WarehouseResource(root=str(home / "warehouse"), memory_limit="1GB", threads=2),
        "vectors": LanceDBResource(uri=str(home / "vectors")),
        "models": ModelStoreResource(root=str(home / "models")),
        "gpu": GPU(device="auto"),
    }


def run(
    job: str | dg.JobDefinition,
    home: Path,
    instance: dg.DagsterInstance,
    days: tuple[date, date] | None = None,
    tags: Mapping[str, str] | None = None,
) -> dg.ExecuteInProcessResult:
    """Run a job in this process, over the first to the last of ``days``."""
    where = {
        "warehouse": {"root": str(home / "warehouse")},
        "vectors": {"uri": str(home / "vectors")},
        "models": {"root": str(home / "models")},
        "gpu": {"device": "auto"},
    }
    definition = defs.resolve_job_def(job) if isinstance(job, str) else job
    used = definition.get_required_resource_defs()
    return definition.execute_in_process(
        instance=instance,
        tags={**(range_tags(*days) if days else {}), **(tags or {})},
        run_config={
            "resources": {name: {"config": at} for name, at in where.items() if name in used},
            "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
        },
        raise_on_error=False,
    )


def run_requested(
    request: dg.RunRequest, home: Path, instance: dg.DagsterInstance
) -> dg.ExecuteInProcessResult:
    """Do what a schedule or sensor asked for."""
    tags = {RUN_KEY: str(request.run_key)}
    return run(request.job_name or "daily", home, instance, requested_days(request), tags)


def requested_days(request: dg.RunRequest) -> tuple[date, date]:
    return (
        date.fromisoformat(request.tags[RANGE_START]),
        date.fromisoformat(request.tags[RANGE_END]),
    )


def materializations(
    instance: dg.DagsterInstance, asset: str, run_id: str | None = None
) -> Iterator[dg.AssetMaterialization]:
    """What is recorded of an asset, by all runs or one, oldest first."""
    found = instance.fetch_materializations(
        dg.AssetKey(asset), limit=10_000, ascending=True
    ).records
    for record in found:
        if run_id in (None, record.run_id) and record.asset_materialization:
            yield record.asset_materialization


def times_recorded(instance: dg.DagsterInstance, asset: str, run_id: str) -> dict[date, int]:
    """Day -> how often a run recorded it."""
    found = materializations(instance, asset, run_id)
    return dict(Counter(date.fromisoformat(m.partition or "") for m in found))


def once(days: Collection[date]) -> dict[date, int]:
    return dict.fromkeys(days, 1)


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    """Evaluations of a run by name of the check."""
    return {e.check_name: e for e in result.get_asset_check_evaluations()}


def done_steps(result: dg.ExecuteInProcessResult) -> set[str]:
    return {e.step_key for e in result.all_events if e.is_step_success and e.step_key}


def rewrite(
    pipeline: Pipeline, table: Table, day: date, change: Callable[[pa.Table], pa.Table]
) -> None:
    """Change the rows of a day behind everybody's back: same files, same keys, other content."""
    snapshot = pipeline.warehouse.snapshot(table)
    for file in snapshot.by_day[day]:
        path = Path(snapshot.root, file.path)
        with pq.ParquetFile(path) as source:
            rows = source.read()
        pq.write_table(change(rows), path)
