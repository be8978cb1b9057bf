"""Raw tables: every record of every landing file, by day of arrival."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from typing import Any

import dagster as dg

from batch_assets.fraud import tables
from batch_assets.fraud.assets.common import (
    DayMetadata,
    build_days,
    pipeline_of,
    table_metadata,
    table_spec,
)
from batch_assets.fraud.build import Built
from batch_assets.fraud.feeds import Kind
from batch_assets.fraud.ingest import RAW, ingest_version, look
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.partitions import DAILY
from batch_assets.storage.resources import WarehouseResource

GROUP = "landing"
FILES_SHOWN = 50
_FILES_SCHEMA = dg.TableSchema(
    [
        dg.TableColumn("feed", "string"),
        dg.TableColumn("file", "string"),
        dg.TableColumn("records", "int"),
        dg.TableColumn("bytes", "int"),
        dg.TableColumn("note", "string"),
    ]
)


def _raw_asset(kind: Kind) -> dg.AssetsDefinition:
    table = RAW[kind]

    @dg.multi_asset(
        name=table.name,
        specs=[table_spec(table, GROUP, [], ingest_version())],
        partitions_def=DAILY,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def raw(context: dg.AssetExecutionContext, warehouse: WarehouseResource):  # type: ignore[no-untyped-def]
        with pipeline_of(warehouse) as pipeline:

            def work(days: list[date], built: Built) -> None:
                news = _days_with_news(pipeline, kind, days)
                try:
                    pipeline.ingest(kind, days)
                finally:
                    left = _days_with_news(pipeline, kind, sorted(news)) if news else set()
                    built.made += sorted(news - left)
                    built.unchanged += [d for d in days if d not in news]

            def metadata(name: str, days: list[date]) -> DayMetadata:
                plain = table_metadata(pipeline.warehouse.snapshot(table))
                files = files_of_days(pipeline, kind, days)
                return lambda day: {**plain(day), **files(day)}

            build_days(context, work, metadata)

    return raw


def _days_with_news(pipeline: Pipeline, kind: Kind, days: Sequence[date]) -> set[date]:
    landing = look(pipeline.warehouse, pipeline.feeds, pipeline.settings, kind)
    return {file.arrived for file in landing.news(days)}


def files_of_days(pipeline: Pipeline, kind: Kind, days: Sequence[date]) -> DayMetadata:
    """The files that arrived on each day, as a small table."""
    register = pipeline.warehouse.snapshot(tables.INGESTED_FILES)
    by_day: dict[date, list[dict[str, Any]]] = defaultdict(list)
    with pipeline.warehouse.connect() as connection:
        seen = register.relation(connection, register.on(days))
        for row in seen.to_arrow_table().to_pylist():
            if row["kind"] == kind:
                by_day[row["day"]].append(row)

    def of_day(day: date) -> dict[str, Any]:
        files = sorted(by_day.get(day, []), key=lambda row: str(row["file"]))
        shown: dict[str, Any] = {"files": len(files)}
        if files:
            records = [_record(row) for row in files[:FILES_SHOWN]]
            shown["files_seen"] = dg.TableMetadataValue(records, _FILES_SCHEMA)
        return shown

    return of_day


def _record(row: dict[str, Any]) -> dg.TableRecord:
    note = f"copy of {row['copy_of']}" if row["copy_of"] else row["note"] or ""
    return dg.TableRecord(
        {
            "feed": row["feed"],
            "file": row["file"],
            "records": row["rows"],
            "bytes": row["bytes"],
            "note": note,
        }
    )


raw_transactions = _raw_asset("transactions")
raw_fraud_labels = _raw_asset("labels")
raw_exchange_rates = _raw_asset("rates")
