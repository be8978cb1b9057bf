"""``batch-assets evaluate``: train on some days, measure on later ones, change nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from batch_assets.errors import BatchAssetsError
from batch_assets.fraud.keys import days_between
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.fraud.run import checked_range, ensure_features
from batch_assets.fraud.train_model import train_on
from batch_assets.fraud.training_data import frauds_between, labelled_rows

if TYPE_CHECKING:
    from dagster import DagsterInstance

KNOWN_DAYS = 7
"""Customers with a fraud in the last so many training days, or later, are known, and not measured.

As in the book, where these are all training days: a longer training is measured on the same rows.
"""


@dataclass(frozen=True)
class Split:
    """Days to train on and to test on, first and last included, and the labels' delay in days."""

    train: tuple[date, date]
    test: tuple[date, date]
    delay: int = 7

    def __post_init__(self) -> None:
        earliest = self.train[1] + timedelta(days=self.delay + 1)
        if self.test[0] < earliest:
            raise BatchAssetsError(
                f"with a delay of {self.delay} days the labels of {self.train[1]} are known on "
                f"{earliest}: test days cannot begin on {self.test[0]}"
            )


def evaluate_split(
    instance: "DagsterInstance",
    pipeline: Pipeline,
    train: tuple[date, date],
    test: tuple[date, date],
    delay: int,
    seed: int | None = None,
) -> dict[str, Any]:
    """Train on the days named and measure by the handbook's protocol.

    Features that are missing are built first.

    Returns:
        auc, average_precision, card_precision_at_100, card_precision_at_100_ceiling, test_rows,
        test_frauds, model_version.
    """
    from batch_assets.fraud.evaluation import evaluate
    from batch_assets.storage.model_content import content_version

    settings = pipeline.settings
    split = Split(checked_range(settings, *train), checked_range(settings, *test), delay)
    ensure_features(instance, pipeline, days_between(split.train[0], split.test[1]))
    seed = settings.training_seed if seed is None else seed
    tensors, card = train_on(pipeline, days_between(*split.train), seed)
    scored = score_rows(pipeline, tensors, card, measured_rows(pipeline, split, card["features"]))
    return evaluate(scored, model_version=content_version(tensors, card))


def measured_rows(pipeline: Pipeline, split: Split, features: Sequence[str] = ()) -> pa.Table:
    """Features and labels of the test days, without the customers that are known by then.

    Args:
        features: those of one's own among them are columns, too.
    """
    from batch_assets.fraud.evaluation import select_test_days

    state = pipeline.state()
    known_from = max(split.train[0], split.train[1] - timedelta(days=KNOWN_DAYS - 1))
    return select_test_days(
        labelled_rows(state, days_between(*split.test), features=features).table,
        frauds_between(state, known_from, split.test[1]),
        train_first=known_from,
        train_last=split.train[1],
        delay_days=split.delay,
        test_first=split.test[0],
        test_last=split.test[1],
    )


def score_rows(
    pipeline: Pipeline, tensors: Mapping[str, Any], card: Mapping[str, Any], rows: pa.Table
) -> pa.Table:
    """``day``, ``customer_id``, ``is_fraud`` and ``score`` of rows, by the scoring engine."""
    from batch_assets.inference.network import TabularNetwork
    from batch_assets.inference.scoring import Scorer

    network = TabularNetwork.from_tensors(tensors)
    scorer = Scorer(network, card["features"], device=pipeline.devices[0])
    kept = ["day", "customer_id", "is_fraud"]
    batches = list(scorer.score(rows.to_batches(), kept))
    return pa.Table.from_batches(batches).select([*kept, "score"])
