"""Totals a day and key, and the point-in-time features that are made from them."""

from batch_assets.fraud import tables
from batch_assets.fraud.assets.common import same_columns
from batch_assets.fraud.assets.sql_step import sql_step_asset
from batch_assets.fraud.features import FEATURES as FEATURE_COLUMNS
from batch_assets.fraud.keys import FEATURES, TOTALS

GROUP = "features"
_CLEAN = "clean_transactions"


_FRAUDS = [("terminal_frauds", "happened_at"), ("terminal_frauds", "known_on")]
_SPENT = [("customer_days", "tx_count"), ("customer_days", "amount_sum"), (_CLEAN, "amount")]
_SOURCES: tuple[tuple[str, list[tuple[str, str]]], ...] = (
    ("amount", [(_CLEAN, "amount")]),
    ("during", [(_CLEAN, "local_time")]),
    ("customer_tx_count", [("customer_days", "tx_count"), (_CLEAN, "happened_at")]),
    ("customer_amount_spread", [*_SPENT, ("customer_days", "amount_squares")]),
    ("customer_amount_deviation", [*_SPENT, ("customer_days", "amount_squares")]),
    ("customer_amount", [*_SPENT, (_CLEAN, "happened_at")]),
    ("customer_max", [("customer_days", "amount_max"), (_CLEAN, "amount")]),
    ("customer_peak", [*_SPENT, ("customer_days", "amount_max")]),
    ("terminal_tx_count", [("terminal_days", "tx_count"), (_CLEAN, "happened_at")]),
    ("terminal_fraud_share", [*_FRAUDS, ("terminal_days", "tx_count")]),
    ("terminal_fraud_run", [*_FRAUDS, ("terminal_days", "tx_count")]),
    ("terminal_days_clean", [*_FRAUDS, ("terminal_days", "last_at")]),
    ("terminal_usual", [*_FRAUDS, ("terminal_frauds", "amount"), *_SPENT]),
    ("terminal_fraud_excess", [*_FRAUDS, ("terminal_frauds", "amount"), *_SPENT]),
    ("", _FRAUDS),
)
"""Beginning of a feature's name -> the columns that it is made from; the first that fits."""


def _sources(feature: str) -> list[tuple[str, str]]:
    return next(made_from for begin, made_from in _SOURCES if feature.startswith(begin))


daily_totals = sql_step_asset(
    TOTALS,
    GROUP,
    deps=[_CLEAN, "fraud_labels"],
    lineage={
        "customer_days": {
            "customer_id": [(_CLEAN, "customer_id")],
            "tx_count": [(_CLEAN, "transaction_id")],
            "amount_sum": [(_CLEAN, "amount")],
            "amount_squares": [(_CLEAN, "amount")],
            "amount_max": [(_CLEAN, "amount")],
            "day": [(_CLEAN, "day")],
        },
        "terminal_days": {
            "terminal_id": [(_CLEAN, "terminal_id")],
            "tx_count": [(_CLEAN, "transaction_id")],
            "last_at": [(_CLEAN, "happened_at")],
            "day": [(_CLEAN, "day")],
        },
        "terminal_frauds": {
            **same_columns(tables.TERMINAL_FRAUDS, tables.CLEAN_TRANSACTIONS),
            "known_on": [("fraud_labels", "known_on")],
        },
    },
)
transaction_features = sql_step_asset(
    FEATURES,
    GROUP,
    deps=[_CLEAN, "customer_days", "terminal_days", "terminal_frauds"],
    lineage={
        "transaction_features": {
            **same_columns(tables.TRANSACTION_FEATURES, tables.CLEAN_TRANSACTIONS),
            **{feature.name: _sources(feature.name) for feature in FEATURE_COLUMNS},
        }
    },
)
