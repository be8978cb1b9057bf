"""The riskiest customers of each day."""

from batch_assets.fraud import tables
from batch_assets.fraud.assets.common import same_columns
from batch_assets.fraud.assets.sql_step import sql_step_asset
from batch_assets.fraud.features import FEATURES
from batch_assets.fraud.insight import report_of_days
from batch_assets.fraud.keys import REPORT

daily_risk_report = sql_step_asset(
    REPORT,
    "reports",
    deps=["fraud_predictions", "transaction_features"],
    lineage={
        "daily_risk_report": {
            **same_columns(tables.DAILY_RISK_REPORT, tables.FRAUD_PREDICTIONS),
            "max_score": [("fraud_predictions", "score")],
            "rank": [("fraud_predictions", "score")],
            "tx_count": [("fraud_predictions", "transaction_id")],
            "amount_sum": [("fraud_predictions", "amount")],
            "reasons": [("transaction_features", feature.name) for feature in FEATURES],
        }
    },
    insight={"daily_risk_report": report_of_days},
)
