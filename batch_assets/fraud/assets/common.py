"""What all partitioned assets share: specs, resources, and the record of each day."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any

import dagster as dg

from batch_assets import progress
from batch_assets.fraud.build import Built
from batch_assets.fraud.keys import Step
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.partitions import DAILY, days_of
from batch_assets.running import this_process_runs
from batch_assets.settings import load_settings
from batch_assets.storage.resources import ModelStoreResource, WarehouseResource
from batch_assets.storage.tables import Table
from batch_assets.storage.vectors.resource import LanceDBResource
from batch_assets.storage.warehouse import Snapshot

OWNERS = ["team:fraud-data"]
DayMetadata = Callable[[date], dict[str, Any]]
Lineage = dict[str, list[tuple[str, str]]]
"""Column -> the (asset, column) pairs that it is computed from."""


def table_spec(
    table: Table,
    group: str,
    deps: Sequence[str],
    code_version: str,
    lineage: Lineage | None = None,
    kinds: frozenset[str] = frozenset({"duckdb", "deltalake"}),
) -> dg.AssetSpec:
    """Spec of an asset that is a Delta table."""
    schema = dg.TableSchema(
        columns=[
            dg.TableColumn(name, str(kind), description=comment)
            for name, (kind, comment) in table.columns.items()
        ]
    )
    metadata: dict[str, Any] = {"dagster/column_schema": schema}
    if lineage:
        metadata["dagster/column_lineage"] = column_lineage(lineage)
    return dg.AssetSpec(
        table.name,
        deps=deps,
        description=table.description,
        group_name=group,
        owners=OWNERS,
        kinds=set(kinds),
        code_version=code_version,
        metadata=metadata,
        partitions_def=DAILY,
    )


def column_lineage(lineage: Lineage) -> dg.TableColumnLineage:
    """Lineage as Dagster wants it."""
    return dg.TableColumnLineage(
        {
            column: [dg.TableColumnDep(dg.AssetKey(asset), name) for asset, name in sources]
            for column, sources in lineage.items()
        }
    )


def same_columns(table: Table, source: Table) -> Lineage:
    """Lineage of the columns that have the same name in the source table."""
    return {c: [(source.name, c)] for c in table.columns if c in source.columns}


@contextmanager
def pipeline_of(
    warehouse: WarehouseResource,
    vectors: LanceDBResource | None = None,
    models: ModelStoreResource | None = None,
    devices: tuple[str, ...] = ("auto",),
    run_id: str = "",
) -> Iterator[Pipeline]:
    """The workload over the given resources."""
    settings = load_settings()
    home = settings.home
    yield Pipeline(
        settings,
        warehouse.open(),
        (vectors or LanceDBResource(uri=str(home / "vectors"))).store(),
        (models or ModelStoreResource(root=str(home / "models"))).open(),
        devices,
        progress.report,
        run_id,
    )


def build_days(
    context: dg.AssetExecutionContext,
    work: Callable[[list[date], Built], None],
    metadata: Callable[[str, list[date]], DayMetadata],
) -> None:
    """Do the work for the run's partitions and record each day with its metadata, once.

    When all goes well the framework records the days. When the work fails, or is interrupted,
    the days that were published before are recorded here, so that tables and UI agree.

    Args:
        work: fills its second argument as days are published, those of no partition of the run
            included, if it builds any.
        metadata: asset name and days -> what to show of one day.
    """
    this_process_runs(context.run.run_id)
    days = days_of(context.partition_keys)
    built = Built()
    names = [key.to_user_string() for key in sorted(context.selected_asset_keys)]
    try:
        work(days, built)
        shown = {name: metadata(name, sorted({*days, *built.made})) for name in names}
    except BaseException:
        _record_published(context, names, built, metadata)
        raise
    made = set(built.made)
    for name in names:
        for day in days:
            context.add_asset_metadata(
                {**shown[name](day), "rebuilt": day in made}, asset_key=name, partition_key=str(day)
            )
        for day in sorted(made.difference(days)):
            told = {**shown[name](day), "rebuilt": True}
            context.log_event(dg.AssetMaterialization(name, partition=str(day), metadata=told))
    context.log.info("%d days built, %d were up to date", len(built.made), len(built.unchanged))


def _record_published(
    context: dg.AssetExecutionContext,
    names: Sequence[str],
    built: Built,
    metadata: Callable[[str, list[date]], DayMetadata],
) -> None:
    made = set(built.made)
    done = sorted(made | set(built.unchanged))
    for name in names:
        try:
            of_day = metadata(name, done)
        except Exception as error:  # that the days are there matters more than what they look like
            context.log.warning("%s: no metadata of the days that were published: %s", name, error)
            of_day = _nothing
        for day in done:
            shown = {**of_day(day), "rebuilt": day in made}
            context.log_event(dg.AssetMaterialization(name, partition=str(day), metadata=shown))


def _nothing(day: date) -> dict[str, Any]:
    return {}


def table_metadata(snapshot: Snapshot) -> DayMetadata:
    """Rows, bytes and key of a day."""

    def of_day(day: date) -> dict[str, Any]:
        files = snapshot.by_day.get(day, [])
        return {
            "dagster/partition_row_count": sum(f.rows for f in files),
            "bytes": sum(f.bytes for f in files),
            "made_from": snapshot.keys.get(day, "nothing"),
            "table_version": snapshot.version,
        }

    return of_day


def step_metadata(pipeline: Pipeline, step: Step) -> Callable[[str, list[date]], DayMetadata]:
    """Rows, bytes and key a day, of each table of a step."""
    by_name = {table.name: table for table in step.tables}

    def metadata(name: str, days: list[date]) -> DayMetadata:
        return table_metadata(pipeline.warehouse.snapshot(by_name[name]))

    return metadata
