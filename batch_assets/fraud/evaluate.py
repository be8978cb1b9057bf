"""``batch-assets evaluate``: train on some days, measure on later ones, change nothing."""

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
    train = checked_range(pipeline.settings, *train)
    test = checked_range(pipeline.settings, *test)
    earliest = train[1] + timedelta(days=delay + 1)
    if test[0] < earliest:
        raise BatchAssetsError(
            f"with a delay of {delay} days the labels of {train[1]} are known on {earliest}: "
            f"test days cannot begin on {test[0]}"
        )
    ensure_features(instance, pipeline, days_between(train[0], test[1]))
    return _measure(pipeline, train, test, delay, seed)


def _measure(
    pipeline: Pipeline,
    train: tuple[date, date],
    test: tuple[date, date],
    delay: int,
    seed: int | None,
) -> dict[str, Any]:
    from batch_assets.fraud.evaluation import evaluate, select_test_days
    from batch_assets.inference.network import TabularNetwork
    from batch_assets.inference.scoring import Scorer
    from batch_assets.storage.model_content import content_version

    seed = pipeline.settings.training_seed if seed is None else seed
    tensors, card = train_on(pipeline, days_between(*train), seed)
    network = TabularNetwork.from_tensors(tensors)
    scorer = Scorer(network, card["features"], device=pipeline.devices[0])
    state = pipeline.state()
    rows = labelled_rows(state, days_between(*test)).table
    scored = pa.Table.from_batches(
        list(scorer.score(rows.to_batches(), ["day", "customer_id", "is_fraud"]))
    )
    kept = select_test_days(
        scored,
        frauds_between(state, train[0], test[1]),
        train_first=train[0],
        train_last=train[1],
        delay_days=delay,
        test_first=test[0],
        test_last=test[1],
    )
    return evaluate(kept, model_version=content_version(tensors, card))
