"""Train on stored features and store the model."""

from collections.abc import Sequence
from datetime import date
from typing import Any

from batch_assets import progress
from batch_assets.errors import BatchAssetsError
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.fraud.scorer import MODEL
from batch_assets.fraud.training_data import (
    MOST_TRAINING_ROWS,
    days_with_features,
    labelled_days,
    labelled_rows,
)


def newest_training_days(pipeline: Pipeline) -> list[date]:
    """The newest ``training_days`` days whose labels have had time to arrive.

    While a version is live, the newest ``comparison_days`` of them, but at most half, are left
    out: on those the new one is compared with it. Where no label has had time, all days count.

    Raises:
        BatchAssetsError: there are no features.
    """
    state = pipeline.state()
    days = labelled_days(pipeline, state) or days_with_features(state)
    if not days:
        raise BatchAssetsError("there are no features yet: run `batch-assets run` for some days")
    settings = pipeline.settings
    if pipeline.models.live(MODEL):
        days = days[: len(days) - min(settings.comparison_days, len(days) // 2)]
    return days[-settings.training_days :]


def train_on(
    pipeline: Pipeline, days: Sequence[date], seed: int, features: Sequence[str] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train on ``days``; returns tensors and card, and stores nothing.

    Args:
        features: names of those to train on; if None all, those of files of one's own included.
    """
    from batch_assets.fraud.training import train

    state = pipeline.state()
    features = features or state.feature_names
    rows = labelled_rows(state, days, MOST_TRAINING_ROWS, features)
    return train(
        rows.table,
        rows.table["is_fraud"].to_numpy(),
        rows.table["day"].to_numpy(),
        feature_names=features,
        name=MODEL,
        seed=seed,
        genuine_kept=rows.genuine_kept,
        progress=lambda p: progress.report_share(MODEL, p.done, p.total),
    )


def train_and_save(
    pipeline: Pipeline, days: Sequence[date], seed: int
) -> tuple[str, dict[str, Any]]:
    """Train on ``days`` and save the model as a candidate; returns version and card."""
    tensors, card = train_on(pipeline, days, seed)
    return pipeline.models.save(tensors, card), card
