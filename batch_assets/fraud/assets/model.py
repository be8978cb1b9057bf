"""The fraud model: trained on days whose labels are known, saved under the hash of its content."""

from datetime import date, timedelta
from importlib import resources
from typing import Any

import dagster as dg
from pydantic import Field

from batch_assets.engines.gpu import GPU_POOL
from batch_assets.fraud.assets import own
from batch_assets.fraud.assets.common import OWNERS, column_lineage, pipeline_of
from batch_assets.fraud.features import FEATURES
from batch_assets.fraud.keys import days_between
from batch_assets.fraud.landing import digest
from batch_assets.fraud.plots import line_plot
from batch_assets.fraud.scorer import MODEL
from batch_assets.fraud.train_model import newest_training_days, train_and_save
from batch_assets.fraud.versions import judge
from batch_assets.running import this_process_runs
from batch_assets.settings import load_settings
from batch_assets.storage.resources import ModelStoreResource, WarehouseResource

_FEATURES, _LABELS = "transaction_features", "fraud_labels"
_CODE = resources.files("batch_assets.fraud").joinpath("training.py").read_text(encoding="utf-8")
_SOURCES = [
    *((_FEATURES, feature.name) for feature in FEATURES),
    *own.COLUMNS,
    (_LABELS, "is_fraud"),
]


class TrainingConfig(dg.Config):
    """Which days to train on."""

    from_day: str = Field("", description="First day; empty for the newest days with labels.")
    to_day: str = Field("", description="Last day; empty for the newest days with labels.")
    seed: int = Field(load_settings().training_seed, description="Seed of all random choices.")


@dg.asset(
    name=MODEL,
    group_name="model",
    owners=OWNERS,
    kinds={"torch"},
    pool=GPU_POOL,
    deps=[_FEATURES, *own.USED, _LABELS],
    code_version=digest(_CODE, *(feature.name for feature in FEATURES))[:8],
    metadata={
        "dagster/column_schema": dg.TableSchema(
            [dg.TableColumn("model_version", "string", description="Hash of weights and card.")]
        ),
        "dagster/column_lineage": column_lineage({"model_version": _SOURCES}),
    },
    freshness_policy=dg.FreshnessPolicy.time_window(
        fail_window=timedelta(days=7, hours=load_settings().freshness_hours)
    ),
    description="A small network with piecewise-linear encoded inputs; the version that it is "
    "given is a hash of its content. It goes live if it is better than the version that is.",
)
def fraud_model(
    context: dg.AssetExecutionContext,
    config: TrainingConfig,
    warehouse: WarehouseResource,
    models: ModelStoreResource,
) -> dg.MaterializeResult[Any]:
    """Train, save as a candidate, and make it live if it is the first one or better."""
    this_process_runs(context.run.run_id)
    with pipeline_of(warehouse, models=models) as pipeline:
        if config.from_day and config.to_day:
            days = days_between(
                date.fromisoformat(config.from_day), date.fromisoformat(config.to_day)
            )
        else:
            days = newest_training_days(pipeline)
        version, card = train_and_save(pipeline, days, config.seed)
        comparison = judge(pipeline, version)
        state = pipeline.models.state(version, MODEL)
    context.log.info("%s is %s: %s", version, state, comparison["reason"])
    return dg.MaterializeResult(
        metadata={
            "model_version": version,
            "state": state,
            "decision": comparison["reason"],
            "comparison": dg.JsonMetadataValue(comparison),
            "training_days": f"{days[0]} to {days[-1]}",
            "training_rows": card["training_rows"],
            "training_frauds": card["training_frauds"],
            **_plain_metrics(card["metrics"]),
            **_plots(card["metrics"]),
            "card": dg.JsonMetadataValue(card),
        }
    )


def _plain_metrics(metrics: dict[str, Any]) -> dict[str, int | float]:
    return {name: value for name, value in metrics.items() if isinstance(value, int | float)}


def _plots(metrics: dict[str, Any]) -> dict[str, dg.MarkdownMetadataValue]:
    """How the network learned, and what it then found on the days held out."""
    curve = metrics["learning_curve"]
    return {
        "learning_curve": line_plot(
            "average precision by epoch", [(p["epoch"], p["average_precision"]) for p in curve]
        ),
        "loss": line_plot("loss by epoch", [(p["epoch"], p["loss"]) for p in curve]),
        "precision_by_recall": line_plot(
            "precision by recall, on the validation days", metrics["precision_by_recall"]
        ),
    }
