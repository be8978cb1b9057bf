"""How good the scores were once labels are known, and how far a day is from the training days."""

from batch_assets.fraud import tables
from batch_assets.fraud.assets.common import Lineage
from batch_assets.fraud.assets.sql_step import sql_step_asset
from batch_assets.fraud.features import FEATURES
from batch_assets.fraud.keys import DRIFT, QUALITY
from batch_assets.fraud.monitoring import show_drift
from batch_assets.fraud.prediction_quality import show_quality

GROUP = "monitoring"
_SCORE, _AMOUNT = ("fraud_predictions", "score"), ("fraud_predictions", "amount")
_LABEL, _KNOWN_ON = ("fraud_labels", "is_fraud"), ("fraud_labels", "known_on")
_CUSTOMER = ("clean_transactions", "customer_id")
_INPUTS = [("transaction_features", feature.name) for feature in FEATURES]
_COUNTED = {
    "measured": [_KNOWN_ON],
    "transactions": [("fraud_predictions", "transaction_id")],
    "labels": [("fraud_labels", "transaction_id")],
    "left_out": [_LABEL, _KNOWN_ON, _CUSTOMER],
    "frauds": [_LABEL],
    "fraud_amount": [_LABEL, _AMOUNT],
    "fraud_value_caught": [_SCORE, _LABEL, _AMOUNT],
    "mean_score": [_SCORE],
    "fraud_share": [_LABEL],
}
_FROM_PREDICTIONS: Lineage = {
    name: [("fraud_predictions", name)] for name in ("model_version", "day")
}

prediction_quality = sql_step_asset(
    QUALITY,
    GROUP,
    deps=["fraud_predictions", "fraud_labels", "clean_transactions"],
    lineage={
        tables.PREDICTION_QUALITY.name: {
            **{name: [_SCORE, _LABEL] for name in tables.PREDICTION_QUALITY.columns},
            **_COUNTED,
            **_FROM_PREDICTIONS,
        }
    },
    insight={tables.PREDICTION_QUALITY.name: show_quality},
)
feature_drift = sql_step_asset(
    DRIFT,
    GROUP,
    deps=["fraud_predictions", "transaction_features", "customer_days", "terminal_days"],
    lineage={
        tables.FEATURE_DRIFT.name: {
            **{name: [*_INPUTS, _SCORE] for name in tables.FEATURE_DRIFT.columns},
            **_FROM_PREDICTIONS,
        }
    },
    insight={tables.FEATURE_DRIFT.name: show_drift},
)
