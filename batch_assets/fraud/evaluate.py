"""``batch-assets evaluate``: train on some days, measure on later ones, change nothing."""

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from batch_assets.errors import BatchAssetsError
from batch_assets.fraud.keys import days_between
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.fraud.run import checked_range, ensure_features

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
    if test[0] <= train[1] + timedelta(days=delay):
        earliest = train[1] + timedelta(days=delay + 1)
        raise BatchAssetsError(
            f"with a delay of {delay} days the labels of {train[1]} are known on {earliest}: "
            f"test days cannot begin before, but begin on {test[0]}"
        )
    ensure_features(instance, pipeline, days_between(train[0], test[1]))
    return _measure(pipeline, train, test, delay, seed)


def _measure(
    pipeline: Pipeline, train: tuple[date, date], test: tuple[date, date], delay: int, seed: int | None
) -> dict[str, Any]:
    raise BatchAssetsError("x")
