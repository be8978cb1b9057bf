"""Clean tables, what was set aside, and the labels, by the day it happened."""

from batch_assets.fraud import tables
from batch_assets.fraud.assets.common import same_columns
from batch_assets.fraud.assets.sql_step import sql_step_asset
from batch_assets.fraud.insight import amounts_of_days, reasons_of_days
from batch_assets.fraud.keys import CLEAN, LABELS, RATES

GROUP = "cleaning"
_RAW, _RATES = tables.RAW_TRANSACTIONS, tables.EXCHANGE_RATES
_CLEAN_LINEAGE = {
    **same_columns(tables.CLEAN_TRANSACTIONS, _RAW),
    "amount": [(_RAW.name, "amount"), (_RATES.name, "rate")],
    "original_amount": [(_RAW.name, "amount")],
    "original_currency": [(_RAW.name, "currency")],
    "exchange_rate": [(_RATES.name, "rate")],
    "delivered_label": [(_RAW.name, "is_fraud")],
    "day": [(_RAW.name, "happened_at")],
}

exchange_rates = sql_step_asset(
    RATES,
    GROUP,
    deps=["raw_exchange_rates"],
    lineage={"exchange_rates": same_columns(_RATES, tables.RAW_RATES)},
)
clean_transactions = sql_step_asset(
    CLEAN,
    GROUP,
    deps=["raw_transactions", "exchange_rates"],
    lineage={
        "clean_transactions": _CLEAN_LINEAGE,
        "quarantined_transactions": same_columns(tables.QUARANTINED_TRANSACTIONS, _RAW),
        "duplicate_transactions": same_columns(tables.DUPLICATE_TRANSACTIONS, _RAW),
    },
    insight={
        "clean_transactions": amounts_of_days,
        "quarantined_transactions": reasons_of_days,
    },
)
fraud_labels = sql_step_asset(
    LABELS,
    GROUP,
    deps=["raw_fraud_labels", "clean_transactions"],
    lineage={
        "fraud_labels": {
            "transaction_id": [
                (tables.RAW_LABELS.name, "transaction_id"),
                ("clean_transactions", "transaction_id"),
            ],
            "is_fraud": [
                (tables.RAW_LABELS.name, "is_fraud"),
                ("clean_transactions", "delivered_label"),
            ],
            "known_on": [(tables.RAW_LABELS.name, "day"), ("clean_transactions", "happened_at")],
        }
    },
)
