"""Predictions and embeddings: one pass of the live model over each day's features."""

from datetime import date
from typing import Any

import dagster as dg

from batch_assets.engines.gpu import GPU, GPU_POOL, gpu_tags
from batch_assets.fraud import tables
from batch_assets.fraud.assets import own
from batch_assets.fraud.assets.common import (
    OWNERS,
    DayMetadata,
    build_days,
    column_lineage,
    pipeline_of,
    same_columns,
    table_metadata,
    table_spec,
)
from batch_assets.fraud.assets.ledger import LEDGER_SPEC, ledger_of_days
from batch_assets.fraud.build import Built
from batch_assets.fraud.embeddings import EMBEDDINGS, PASSED_THROUGH
from batch_assets.fraud.features import FEATURES
from batch_assets.fraud.insight import scores_of_days
from batch_assets.fraud.keys import PREDICTIONS
from batch_assets.fraud.ledger import work_done_twice
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.fraud.scorer import MODEL
from batch_assets.partitions import DAILY
from batch_assets.storage.resources import ModelStoreResource, WarehouseResource
from batch_assets.storage.vectors.resource import LanceDBResource

GROUP = "predictions"
_FEATURES = "transaction_features"
_INPUTS = [*((_FEATURES, feature.name) for feature in FEATURES), *own.COLUMNS]
_MODEL_VERSION = [(MODEL, "model_version")]
_DEPS = [_FEATURES, *own.USED, "fraud_model"]
_PREDICTIONS = table_spec(
    tables.FRAUD_PREDICTIONS,
    GROUP,
    _DEPS,
    PREDICTIONS.version,
    {
        **same_columns(tables.FRAUD_PREDICTIONS, tables.TRANSACTION_FEATURES),
        "score": _INPUTS,
        "model_version": _MODEL_VERSION,
        "scored_at": [],
    },
    kinds=frozenset({"torch", "deltalake"}),
)
_COMMENTS = {
    **{name: comment for name, (_, comment) in tables.FRAUD_PREDICTIONS.columns.items()},
    "vector": "Embedding; neighbours are transactions that the model sees alike.",
    "scoring_key": "What it was made from; fraud_predictions names the same for the day.",
    "input_hash": "128 bits of the model's input, its version and how it is computed.",
}
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
            [
                dg.TableColumn(field.name, str(field.type), description=_COMMENTS[field.name])
                for field in EMBEDDINGS.schema
            ]
        ),
        "dagster/column_lineage": column_lineage(
            {
                **{name: [(_FEATURES, name)] for name in (*PASSED_THROUGH, "day")},
                "vector": _INPUTS,
                "score": _INPUTS,
                "model_version": _MODEL_VERSION,
                "scoring_key": [(_FEATURES, "day"), *_MODEL_VERSION],
                "input_hash": [*_INPUTS, *_MODEL_VERSION],
            }
        ),
    },
)


@dg.multi_asset(
    name="score_transactions",
    specs=[_PREDICTIONS, _EMBEDDINGS, LEDGER_SPEC],
    partitions_def=DAILY,
    backfill_policy=dg.BackfillPolicy.single_run(),
    pool=GPU_POOL,
    op_tags=gpu_tags(),
)
def score_transactions(  # type: ignore[no-untyped-def]
    context: dg.AssetExecutionContext,
    warehouse: WarehouseResource,
    vectors: LanceDBResource,
    models: ModelStoreResource,
    gpu: GPU,
):
    """Scores and vectors of the run's days, with the model loaded once."""
    run_id = context.run.run_id
    with (
        gpu.lease(run_id, say=context.log.info) as leased,
        pipeline_of(warehouse, vectors, models, leased.names, run_id) as pipeline,
    ):
        context.log.info("scoring on %s (%s)", ", ".join(leased.names), leased.note)

        def work(days: list[date], built: Built) -> None:
            pipeline.build(PREDICTIONS, days, built)
            for day, rows in work_done_twice(pipeline.warehouse, days[0], days[-1]).items():
                if day in built.made:
                    context.log.info("%s: %d rows had to be computed twice", day, rows)
            pipeline.vectors.optimise(EMBEDDINGS)

        def metadata(name: str, days: list[date]) -> DayMetadata:
            if name == EMBEDDINGS.name:
                return _vector_metadata(pipeline)
            if name == tables.INFERENCE_LEDGER.name:
                return _ledger_metadata(pipeline, days)
            plain = table_metadata(pipeline.warehouse.snapshot(tables.FRAUD_PREDICTIONS))
            scores = scores_of_days(pipeline, days)
            how = {"model_version": pipeline.models.live(MODEL) or "", "device": leased.note}
            return lambda day: {**plain(day), **scores(day), **how}

        build_days(context, work, metadata)


def _ledger_metadata(pipeline: Pipeline, days: list[date]) -> DayMetadata:
    rows = table_metadata(pipeline.warehouse.snapshot(tables.INFERENCE_LEDGER))
    took = ledger_of_days(pipeline.warehouse, days, tables.FRAUD_PREDICTIONS.name)
    return lambda day: {**rows(day), **took(day)}


def _vector_metadata(pipeline: Pipeline) -> DayMetadata:
    held = pipeline.vectors.days(EMBEDDINGS)
    cache = {"embedding_cache": dg.JsonMetadataValue(pipeline.cache_report())}

    def of_day(day: date) -> dict[str, Any]:
        if day not in held:
            return {"dagster/partition_row_count": 0}
        return {
            "dagster/partition_row_count": held[day].rows,
            "made_from": held[day].version_key or "nothing",
            **cache,
        }

    return of_day
