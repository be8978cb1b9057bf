"""Predictions and embeddings: one pass of the live model over each day's features."""

from datetime import date

import dagster as dg

from batch_assets.engines.gpu import GPU, GPU_POOL
from batch_assets.fraud import tables
from batch_assets.fraud.assets.common import (
    OWNERS,
    DayMetadata,
    build_days,
    pipeline_of,
    same_columns,
    table_metadata,
    table_spec,
)
from batch_assets.fraud.features import FEATURES
from batch_assets.fraud.insight import scores_of_days
from batch_assets.fraud.keys import PREDICTIONS
from batch_assets.fraud.scoring import EMBEDDINGS
from batch_assets.partitions import DAILY
from batch_assets.storage.resources import ModelStoreResource, WarehouseResource
from batch_assets.storage.vectors.resource import LanceDBResource

GROUP = "predictions"
_FEATURES = "transaction_features"
_INPUTS = [(_FEATURES, feature.name) for feature in FEATURES]
_DEPS = [_FEATURES, "fraud_model"]
_PREDICTIONS = table_spec(
    tables.FRAUD_PREDICTIONS,
    GROUP,
    _DEPS,
    PREDICTIONS.version,
    {
        **same_columns(tables.FRAUD_PREDICTIONS, tables.TRANSACTION_FEATURES),
        "score": _INPUTS,
    },
    kinds=frozenset({"torch", "deltalake"}),
)
_EMBEDDINGS = dg.AssetSpec(
    EMBEDDINGS.name,
    deps=_DEPS,
    description="One embedding a scored transaction, 64 dimensions, searchable by similarity.",
    group_name=GROUP,
    owners=OWNERS,
    kinds={"torch", "lancedb"},
    code_version=PREDICTIONS.version,
    partitions_def=DAILY,
    metadata={
        "dagster/column_schema": dg.TableSchema(
            [dg.TableColumn(f.name, str(f.type)) for f in EMBEDDINGS.schema]
        ),
        "dagster/column_lineage": dg.TableColumnLineage(
            {"vector": [dg.TableColumnDep(dg.AssetKey(a), c) for a, c in _INPUTS]}
        ),
    },
)


@dg.multi_asset(
    name="score_transactions",
    specs=[_PREDICTIONS, _EMBEDDINGS],
    partitions_def=DAILY,
    backfill_policy=dg.BackfillPolicy.single_run(),
    pool=GPU_POOL,
)
def score_transactions(  # type: ignore[no-untyped-def]
    context: dg.AssetExecutionContext,
    warehouse: WarehouseResource,
    vectors: LanceDBResource,
    models: ModelStoreResource,
    gpu: GPU,
):
    with pipeline_of(warehouse, vectors, models, gpu) as pipeline:
        context.log.info(gpu.resolve()[1])

        def metadata(name: str, days: list[date]) -> DayMetadata:
            if name == EMBEDDINGS.name:
                held = pipeline.vectors.days(EMBEDDINGS)
                return lambda day: {
                    "dagster/partition_row_count": held[day].rows if day in held else 0
                }
            plain = table_metadata(pipeline.warehouse.snapshot(tables.FRAUD_PREDICTIONS))
            scores = scores_of_days(pipeline, days)
            version = pipeline.state().model_version or ""
            return lambda day: {**plain(day), **scores(day), "model_version": version}

        build_days(
            context, lambda days, built: _none(pipeline.build(PREDICTIONS, days, built)), metadata
        )
        pipeline.vectors.optimise(EMBEDDINGS)


def _none(value: object) -> None:
    """Drop a result."""
