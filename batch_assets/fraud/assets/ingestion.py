"""Raw tables: every record of every landing file, by day of arrival."""

from datetime import date
from typing import Any

import dagster as dg

from batch_assets.fraud.assets.common import build_days, pipeline_of, table_metadata, table_spec
from batch_assets.fraud.build import Built
from batch_assets.fraud.feeds import Kind
from batch_assets.fraud.ingest import RAW, ingest_version
from batch_assets.partitions import DAILY
from batch_assets.storage.resources import WarehouseResource

GROUP = "landing"


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
            files: dict[date, list[dict[str, Any]]] = {}

            def work(days: list[date], built: Built) -> None:
                news = set(pipeline.news()[kind]) & set(days)
                try:
                    files.update(pipeline.ingest(kind, days))
                finally:
                    left = set(pipeline.news()[kind])
                    built.made += sorted(news - left)
                    built.unchanged += [d for d in days if d not in news]

            def metadata(name: str, days: list[date]) -> Any:
                of_table = table_metadata(pipeline.warehouse.snapshot(table))
                return lambda day: {**of_table(day), **_files(files.get(day, []))}

            build_days(context, work, metadata)

    return raw


def _files(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """A small table of the day's files."""
    records = [
        dg.TableRecord(
            {
                "feed": e["feed"],
                "file": e["file"],
                "records": e["rows"],
                "bytes": e["bytes"],
                "note": f"copy of {e['copy_of']}" if e["copy_of"] else e["note"] or "",
            }
        )
        for e in sorted(entries, key=lambda e: e["file"])[:50]
    ]
    return {"files": len(entries), "files_seen": dg.TableMetadataValue(records, _FILES_SCHEMA)}


_FILES_SCHEMA = dg.TableSchema(
    [
        dg.TableColumn("feed", "string"),
        dg.TableColumn("file", "string"),
        dg.TableColumn("records", "int"),
        dg.TableColumn("bytes", "int"),
        dg.TableColumn("note", "string"),
    ]
)

raw_transactions = _raw_asset("transactions")
raw_fraud_labels = _raw_asset("labels")
raw_exchange_rates = _raw_asset("rates")
