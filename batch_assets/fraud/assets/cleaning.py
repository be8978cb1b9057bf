"""Clean tables, what was set aside, and the labels, by the day it happened."""

from batch_assets.fraud import tables
from batch_assets.fraud.assets.common import Lineage, same_columns
from batch_assets.fraud.assets.sql_step import sql_step_asset
from batch_assets.fraud.insight import amounts_of_days, reasons_of_days
from batch_assets.fraud.keys import CLEAN, LABELS, RATES
from batch_assets.storage.tables import Table

GROUP = "cleaning"
_RAW, _RATES = tables.RAW_TRANSACTIONS, tables.EXCHANGE_RATES
_LABELS = tables.RAW_LABELS


def _of_raw(table: Table, raw: Table) -> Lineage:
    """A raw table is by day of arrival; what comes after it, by the day it happened."""
    days = {"day": [(raw.name, "happened_on")], "arrived_on": [(raw.name, "day")]}
    own = {name: sources for name, sources in days.items() if name in table.columns}
    return {**same_columns(table, raw), **own}


exchange_rates = sql_step_asset(
    RATES,
    GROUP,
    deps=[tables.RAW_RATES.name],
    lineage={
        _RATES.name: {
            **_of_raw(_RATES, tables.RAW_RATES),
            "published_on": [(tables.RAW_RATES.name, "happened_on")],
        },
        tables.QUARANTINED_RATES.name: {
            **_of_raw(tables.QUARANTINED_RATES, tables.RAW_RATES),
            "reasons": [(tables.RAW_RATES.name, "problems")],
        },
    },
)
clean_transactions = sql_step_asset(
    CLEAN,
    GROUP,
    deps=[_RAW.name, _RATES.name],
    lineage={
        tables.CLEAN_TRANSACTIONS.name: {
            **_of_raw(tables.CLEAN_TRANSACTIONS, _RAW),
            "amount": [(_RAW.name, "amount"), (_RATES.name, "rate")],
            "original_amount": [(_RAW.name, "amount")],
            "original_currency": [(_RAW.name, "currency")],
            "exchange_rate": [(_RATES.name, "rate")],
            "delivered_label": [(_RAW.name, "is_fraud")],
        },
        tables.QUARANTINED_TRANSACTIONS.name: {
            **_of_raw(tables.QUARANTINED_TRANSACTIONS, _RAW),
            "reasons": [(_RAW.name, "problems"), (_RATES.name, "rate")],
        },
        tables.DUPLICATE_TRANSACTIONS.name: {
            **_of_raw(tables.DUPLICATE_TRANSACTIONS, _RAW),
            "superseded": [(_RAW.name, "transaction_id")],
            "kept_file": [(_RAW.name, "file")],
            "kept_row_number": [(_RAW.name, "row_number")],
        },
    },
    insight={
        tables.CLEAN_TRANSACTIONS.name: amounts_of_days,
        tables.QUARANTINED_TRANSACTIONS.name: reasons_of_days,
    },
)
fraud_labels = sql_step_asset(
    LABELS,
    GROUP,
    deps=[_LABELS.name, tables.CLEAN_TRANSACTIONS.name],
    lineage={
        tables.FRAUD_LABELS.name: {
            "transaction_id": [
                (_LABELS.name, "transaction_id"),
                ("clean_transactions", "transaction_id"),
            ],
            "is_fraud": [(_LABELS.name, "is_fraud"), ("clean_transactions", "delivered_label")],
            "known_on": [(_LABELS.name, "day"), ("clean_transactions", "day")],
            "day": [(_LABELS.name, "happened_on"), ("clean_transactions", "day")],
        },
        tables.QUARANTINED_LABELS.name: {
            **_of_raw(tables.QUARANTINED_LABELS, _LABELS),
            "reasons": [(_LABELS.name, "problems")],
        },
    },
)
