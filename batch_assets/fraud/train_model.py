"""Train on stored features and store the model."""

from collections.abc import Sequence
from datetime import date
from typing import Any

from batch_assets import progress
from batch_assets.fraud.features import FEATURES
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.fraud.scorer import MODEL
from batch_assets.fraud.training_data import MOST_TRAINING_ROWS, labelled_rows


def train_on(
    pipeline: Pipeline, days: Sequence[date], seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train on ``days``; returns tensors and card, and stores nothing."""
    from batch_assets.fraud.training import train

    rows = labelled_rows(pipeline.state(), days, MOST_TRAINING_ROWS)
    return train(
        rows.table,
        rows.table["is_fraud"].to_numpy(),
        rows.table["day"].to_numpy(),
        feature_names=[feature.name for feature in FEATURES],
        name=MODEL,
        seed=seed,
        genuine_kept=rows.genuine_kept,
        progress=lambda p: progress.report_share(MODEL, p.done, p.total),
    )


def train_and_save(
    pipeline: Pipeline, days: Sequence[date], seed: int
) -> tuple[str, dict[str, Any]]:
    """Train on ``days`` and save the model, not yet live; returns version and card."""
    tensors, card = train_on(pipeline, days, seed)
    return pipeline.models.save(tensors, card), card
