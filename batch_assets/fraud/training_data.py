"""Feature rows with labels, for training and evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import pyarrow as pa

from batch_assets.errors import BatchAssetsError
from batch_assets.fraud import tables
from batch_assets.fraud.feature_rows import register_features
from batch_assets.fraud.keys import State, days_between
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.fraud.sql import sql_text
from batch_assets.settings import Settings

MOST_TRAINING_ROWS = 400_000


@dataclass(frozen=True)
class LabelledRows:
    """Features and labels of some days.

    Args:
        table: columns of ``transaction_features`` and ``is_fraud`` (never null).
        genuine_kept: share of the genuine rows that is in the table, 1.0 for all.
    """

    table: pa.Table
    genuine_kept: float


def labelled_rows(
    state: State,
    days: Sequence[date],
    most_rows: int | None = None,
    features: Sequence[str] = (),
) -> LabelledRows:
    """Rows of ``days``; a transaction without a label counts as genuine.

    Args:
        most_rows: keep all frauds, and of the genuine rows a sample by key so that about this
            many rows remain. The same rows are chosen each time.
        features: those of one's own among them are columns, too.
    """
    held = state.snapshot(tables.TRANSACTION_FEATURES)
    missing = [str(day) for day in days if day not in held.by_day]
    if missing:
        raise BatchAssetsError(
            f"there are no features of {missing[0]}{' and later days' * (len(missing) > 1)}: "
            f"run `batch-assets run --from {missing[0]} --to {missing[-1]}` first"
        )
    rows = held.rows(days)
    share = 1.0 if most_rows is None or rows <= most_rows else most_rows / rows
    labels = state.snapshot(tables.FRAUD_LABELS)
    with state.warehouse.connect() as connection:
        register_features(connection, state, days, features)
        labels.register(connection, labels.on(days))
        table = connection.sql(sql_text("labelled_rows"), params={"share": share}).to_arrow_table()
    return LabelledRows(table, share)


def frauds_between(state: State, first: date, last: date) -> pa.Table:
    """``day`` and ``customer_id`` of each fraudulent transaction of these days."""
    clean, labels = state.snapshot(tables.CLEAN_TRANSACTIONS), state.snapshot(tables.FRAUD_LABELS)
    days = days_between(first, last)
    with state.warehouse.connect() as connection:
        clean.register(connection, clean.on(days))
        labels.register(connection, labels.on(days))
        return connection.sql(sql_text("known_frauds")).to_arrow_table()


def bootstrap_days(pipeline: Pipeline, arrivals: Sequence[date]) -> tuple[list[date], list[date]]:
    """Days for a first model: the days to train on, and the days to build for it.

    They follow from the landing zone alone, never from the range that somebody asks for, so
    that any order of runs gives the same first model: the first ``training_days`` days, of
    which, where there are enough days, all labels have arrived.
    """
    settings: Settings = pipeline.settings
    if not arrivals:
        raise BatchAssetsError(
            f"there is no file of transactions under {settings.landing} "
            f"that arrived since {settings.start_date}"
        )
    first, newest = min(arrivals), max(arrivals)
    delay = timedelta(days=pipeline.feeds.label_delay_days)
    last = first + timedelta(days=settings.training_days - 1)
    if newest - delay > first:
        last = min(last, newest - delay)
    last = min(last, newest)
    return days_between(first, last), days_between(first, min(newest, last + delay))


def days_with_features(state: State) -> list[date]:
    """Days that have a row of features, ascending."""
    features = state.snapshot(tables.TRANSACTION_FEATURES)
    return [day for day in sorted(features.by_day) if features.rows([day])]


def labelled_days(pipeline: Pipeline, state: State) -> list[date]:
    """Those whose labels have had time to arrive until the newest of them."""
    days = days_with_features(state)
    delay = timedelta(days=pipeline.feeds.label_delay_days)
    return [day for day in days if day <= days[-1] - delay]
