"""Totals a day and key, and the point-in-time features that are made from them."""

from batch_assets.fraud import tables
from batch_assets.fraud.assets.common import same_columns
from batch_assets.fraud.assets.sql_step import sql_step_asset
from batch_assets.fraud.features import FEATURES as FEATURE_COLUMNS
from batch_assets.fraud.keys import FEATURES, TOTALS

GROUP = "features"
_CLEAN = "clean_transactions"


def _sources(feature: str) -> list[tuple[str, str]]:
    if feature.startswith("customer_tx_count"):
        return [("customer_days", "tx_count"), (_CLEAN, "happened_at")]
    if feature.startswith("customer_amount"):
        return [("customer_days", "amount_sum"), (_CLEAN, "amount"), (_CLEAN, "happened_at")]
    if feature.startswith("terminal_tx_count"):
        return [("terminal_days", "tx_count"), (_CLEAN, "happened_at")]
    if feature.startswith("terminal_fraud"):
        return [("terminal_frauds", "happened_at"), ("terminal_days", "tx_count")]
    return [(_CLEAN, "amount" if feature == "amount" else "local_time")]


daily_totals = sql_step_asset(
    TOTALS,
    GROUP,
    deps=[_CLEAN, "fraud_labels"],
    lineage={
        "customer_days": {
            "customer_id": [(_CLEAN, "customer_id")],
            "tx_count": [(_CLEAN, "transaction_id")],
            "amount_sum": [(_CLEAN, "amount")],
            "day": [(_CLEAN, "day")],
        },
        "terminal_days": {
            "terminal_id": [(_CLEAN, "terminal_id")],
            "tx_count": [(_CLEAN, "transaction_id")],
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
