"""Every Delta table of the fraud workload, with its columns."""

import pyarrow as pa

from batch_assets.fraud.features import FEATURES
from batch_assets.storage.tables import Table

TEXT, DATE, WHEN = pa.string(), pa.date32(), pa.timestamp("us")
MONEY = pa.decimal128(18, 2)
Columns = dict[str, tuple[pa.DataType, str]]

_ORIGIN: Columns = {
    "feed": (TEXT, "Name of the feed in feeds.yaml."),
    "region": (TEXT, "Region of the feed."),
    "file": (TEXT, "File, relative to landing/ where it lies there."),
    "row_number": (pa.int64(), "Record in the file, from 1; 0 speaks of the file as a whole."),
}
_RAW: Columns = {
    **_ORIGIN,
    "transaction_id": (TEXT, "Key, with the feed's prefix."),
    "customer_id": (TEXT, "Customer, with the feed's prefix."),
    "terminal_id": (TEXT, "Terminal, with the feed's prefix."),
    "amount_text": (TEXT, "Amount as delivered."),
    "currency_text": (TEXT, "Currency as delivered."),
    "time_text": (TEXT, "Time as delivered."),
    "label_text": (TEXT, "Label as delivered."),
    "rate_text": (TEXT, "Exchange rate as delivered."),
    "other": (TEXT, "JSON of the columns that the feed does not map."),
    "line": (TEXT, "The record as text, where it could not be taken apart."),
    "happened_at": (WHEN, "Time in UTC; null where it cannot be told."),
    "local_time": (WHEN, "The same on the feed's own clock."),
    "amount": (pa.decimal128(18, 4), "Amount in its own currency."),
    "currency": (TEXT, "ISO 4217 code."),
    "is_fraud": (pa.bool_(), "Label."),
    "rate": (pa.decimal128(18, 10), "Value of one unit in the reporting currency."),
    "problems": (pa.list_(TEXT), "Why the record cannot be used, as far as its file alone tells."),
    "happened_on": (DATE, "Day that the record counts for: its UTC day, else its arrival."),
    "day": (DATE, "Day of arrival."),
}


def _raw(name: str, what: str) -> Table:
    return Table(
        name, _RAW, f"Every record of every {what} file, as it came.", ("day", "happened_on")
    )


def _quarantine(name: str, what: str) -> Table:
    columns: Columns = {
        **{
            k: _RAW[k]
            for k in _RAW
            if k not in ("is_fraud", "rate", "problems", "happened_on", "day")
        },
        "reasons": (pa.list_(TEXT), "Every reason, each one that a person can act on."),
        "arrived_on": (DATE, "Day of arrival."),
        "day": (DATE, "UTC day of the record, else its day of arrival."),
    }
    return Table(name, columns, f"{what} that could not be used, and every reason why.")


RAW_TRANSACTIONS = _raw("raw_transactions", "transaction")
RAW_LABELS = _raw("raw_fraud_labels", "label")
RAW_RATES = _raw("raw_exchange_rates", "exchange-rate")
QUARANTINED_TRANSACTIONS = _quarantine("quarantined_transactions", "Transactions")
QUARANTINED_LABELS = _quarantine("quarantined_labels", "Labels")
QUARANTINED_RATES = _quarantine("quarantined_rates", "Exchange rates")

INGESTED_FILES = Table(
    "ingested_files",
    {
        "kind": (TEXT, "transactions, labels or rates."),
        "feed": (TEXT, "Name of the feed in feeds.yaml."),
        "region": (TEXT, "Region of the feed."),
        "file": (TEXT, "File, relative to landing/ where it lies there."),
        "bytes": (pa.int64(), "Size in bytes."),
        "modified_ns": (pa.int64(), "Modification time, nanoseconds since 1970."),
        "content_hash": (TEXT, "SHA-256 of the content."),
        "raw_key": (TEXT, "Name under which raw keeps it: path, content, and how it was read."),
        "rows": (pa.int64(), "Records in raw; a copy has none."),
        "days": (pa.list_(DATE), "Days that its records count for."),
        "copy_of": (TEXT, "File with the same content that is used in its place."),
        "note": (TEXT, "What is odd about the file as a whole."),
        "day": (DATE, "Day of arrival."),
    },
    "One row a file seen: what is new, what changed, and what it touched.",
)
REPEATED_KEYS = Table(
    "repeated_keys",
    {
        "transaction_id": (TEXT, "Key that stands on more than one day."),
        "happened_on": (DATE, "One of the days."),
        "day": (DATE, "Day of arrival of the files that showed it."),
    },
    "Transaction keys delivered with times on different days; grain: key, day it happened.",
)
EXCHANGE_RATES = Table(
    "exchange_rates",
    {
        "currency": (TEXT, "ISO 4217 code."),
        "rate": (pa.decimal128(18, 10), "Value of one unit in the reporting currency."),
        "published_on": (DATE, "Day that the rate is of; earlier than day if it stands in."),
        "day": (DATE, "Day that it is used for."),
    },
    "One rate a currency and day.",
)
CLEAN_TRANSACTIONS = Table(
    "clean_transactions",
    {
        "transaction_id": (TEXT, "Key, unique over all days."),
        "customer_id": (TEXT, "Who paid."),
        "terminal_id": (TEXT, "Where."),
        "happened_at": (WHEN, "UTC."),
        "local_time": (WHEN, "On the feed's own clock."),
        "amount": (MONEY, "In the reporting currency, rounded half away from zero."),
        "original_amount": (pa.decimal128(18, 4), "In its own currency."),
        "original_currency": (TEXT, "ISO 4217 code."),
        "exchange_rate": (pa.decimal128(18, 10), "amount = original_amount x exchange_rate."),
        "delivered_label": (pa.bool_(), "Label, of feeds that deliver it in the same row."),
        **_ORIGIN,
        "arrived_on": (DATE, "Day of arrival."),
        "day": (DATE, "UTC day on which it happened."),
    },
    "One row a transaction: UTC, one currency, exact decimals.",
)
DUPLICATE_TRANSACTIONS = Table(
    "duplicate_transactions",
    {
        "transaction_id": (TEXT, "Key."),
        **_ORIGIN,
        "superseded": (
            pa.bool_(),
            "True: replaced by a correction; false: the same content again.",
        ),
        "kept_file": (TEXT, "File of the row that counts."),
        "kept_row_number": (pa.int64(), "Its record."),
        "arrived_on": (DATE, "Day of arrival."),
        "day": (DATE, "UTC day on which it happened."),
    },
    "Deliveries that say again, or said earlier, what a clean row says.",
)
FRAUD_LABELS = Table(
    "fraud_labels",
    {
        "transaction_id": (TEXT, "Key of the transaction."),
        "is_fraud": (pa.bool_(), "Fraud or not."),
        "known_on": (DATE, "First day on which the label was known."),
        "day": (DATE, "UTC day of the transaction."),
    },
    "At most one label a transaction; none means genuine once the delay has passed.",
)
CUSTOMER_DAYS = Table(
    "customer_days",
    {
        "customer_id": (TEXT, "Customer."),
        "tx_count": (pa.int64(), "Transactions of the day."),
        "amount_sum": (pa.decimal128(38, 2), "Their sum, reporting currency."),
        "amount_squares": (
            pa.decimal128(38, 0),
            "Sum of their squares, in squares of a hundredth; of 10 billion at most each.",
        ),
        "amount_max": (MONEY, "The largest, reporting currency."),
        "day": (DATE, "UTC day."),
    },
    "Totals a customer and day.",
)
TERMINAL_DAYS = Table(
    "terminal_days",
    {
        "terminal_id": (TEXT, "Terminal."),
        "tx_count": (pa.int64(), "Transactions of the day."),
        "last_at": (WHEN, "Time of the last, UTC."),
        "day": (DATE, "UTC day."),
    },
    "Totals a terminal and day.",
)
TERMINAL_FRAUDS = Table(
    "terminal_frauds",
    {
        "terminal_id": (TEXT, "Terminal."),
        "customer_id": (TEXT, "Customer."),
        "transaction_id": (TEXT, "Fraudulent transaction."),
        "happened_at": (WHEN, "UTC."),
        "amount": (MONEY, "Reporting currency."),
        "known_on": (DATE, "First day on which it was known to be fraud."),
        "day": (DATE, "UTC day of the transaction."),
    },
    "Known frauds, where and of whom.",
)
TRANSACTION_FEATURES = Table(
    "transaction_features",
    {
        "transaction_id": (TEXT, "Key."),
        "customer_id": (TEXT, "Who paid."),
        "terminal_id": (TEXT, "Where."),
        "happened_at": (WHEN, "UTC."),
        **{f.name: (f.type, f.description) for f in FEATURES},
        "day": (DATE, "UTC day."),
    },
    "What was known at the moment of each transaction, and nothing later.",
)
FRAUD_PREDICTIONS = Table(
    "fraud_predictions",
    {
        "transaction_id": (TEXT, "Key."),
        "customer_id": (TEXT, "Who paid."),
        "terminal_id": (TEXT, "Where."),
        "happened_at": (WHEN, "UTC."),
        "amount": (pa.float64(), "Reporting currency."),
        "score": (pa.float32(), "Probability of fraud, 0 to 1."),
        "model_version": (TEXT, "Model that scored it."),
        "scored_at": (WHEN, "UTC time of scoring."),
        "day": (DATE, "UTC day."),
    },
    "One score a clean transaction.",
)
DAILY_RISK_REPORT = Table(
    "daily_risk_report",
    {
        "customer_id": (TEXT, "Customer."),
        "rank": (pa.int32(), "1 is the riskiest of the day."),
        "max_score": (pa.float32(), "Highest score of the day."),
        "transaction_id": (TEXT, "Transaction with that score."),
        "tx_count": (pa.int64(), "Transactions of the day."),
        "amount_sum": (MONEY, "Their sum, reporting currency."),
        "model_version": (TEXT, "Model that scored them."),
        "reasons": (
            pa.list_(TEXT),
            "What raised that score, the most important first; null after the first 100.",
        ),
        "day": (DATE, "UTC day."),
    },
    "Customers of a day by risk, the riskiest 1,000.",
)
PREDICTION_QUALITY = Table(
    "prediction_quality",
    {
        "measured": (pa.bool_(), "Labels are known; until then all measures are null."),
        "transactions": (pa.int64(), "Scored transactions."),
        "labels": (pa.int64(), "Of them, how many have a label; those without count as genuine."),
        "left_out": (
            pa.int64(),
            "Transactions of customers known as compromised before the day: not in what follows.",
        ),
        "frauds": (pa.int64(), "Fraudulent transactions."),
        "auc": (pa.float64(), "Area under the ROC curve; null unless there are both classes."),
        "average_precision": (pa.float64(), "Null without frauds."),
        "card_precision_at_100": (
            pa.float64(),
            "Compromised among the 100 customers with the highest scores, divided by 100.",
        ),
        "card_precision_at_100_ceiling": (pa.float64(), "What no score can surpass that day."),
        "fraud_amount": (MONEY, "Sum of the frauds, reporting currency."),
        "fraud_value_caught": (
            pa.float64(),
            "Share of that amount at those 100 customers; null without frauds.",
        ),
        "mean_score": (pa.float64(), "To be compared with fraud_share."),
        "fraud_share": (pa.float64(), "Share of the transactions that are frauds."),
        "brier_score": (pa.float64(), "Mean squared difference of score and label."),
        "calibration_error": (pa.float64(), "Expected calibration error, in ten bins."),
        "model_version": (TEXT, "Model that scored."),
        "day": (DATE, "UTC day of the transactions."),
    },
    "How good the scores of each day were, once its labels are known: one row a day.",
)
FEATURE_DRIFT = Table(
    "feature_drift",
    {
        "feature": (
            TEXT,
            "Input of the model; or score, new_customer, new_terminal (none in 30 days before).",
        ),
        "transactions": (pa.int64(), "Transactions of the day."),
        "missing_share": (pa.float64(), "Share of them without a value."),
        "trained_missing_share": (pa.float64(), "The same on the training days."),
        "psi": (
            pa.float64(),
            "Population stability index against the same weekdays of the model's training days, "
            "by deciles; null if there are too few rows, no such days, or too few before them.",
        ),
        "moved": (
            TEXT,
            "The values whose share differs most from that of the training days; or why nothing is "
            "compared.",
        ),
        "model_version": (TEXT, "Model that scored the day."),
        "day": (DATE, "UTC day."),
    },
    "How far the values of each day are from those that the model was trained on; grain: day and "
    "feature.",
)
REALTIME_RECONCILIATION = Table(
    "realtime_reconciliation",
    {
        "transaction_id": (TEXT, "Key."),
        "customer_id": (TEXT, "Who paid, as asked for in real time."),
        "terminal_id": (TEXT, "Where, as asked for in real time."),
        "happened_at": (WHEN, "UTC, as asked for in real time."),
        "realtime_score": (pa.float32(), "What a server said."),
        "batch_score": (pa.float32(), "What the batch says; null if it has no such transaction."),
        "difference": (pa.float64(), "Batch less real time."),
        "status": (TEXT, "agreed (within 1e-6), differs, or missing in the batch."),
        "what_differs": (
            TEXT,
            "Of those that differ: model, transaction (customer, terminal or time), amount, or "
            "features (something else was known when the batch came).",
        ),
        "realtime_amount": (pa.float64(), "Reporting currency."),
        "batch_amount": (pa.float64(), "Reporting currency."),
        "realtime_model_version": (TEXT, "Model that the server scored with."),
        "batch_model_version": (TEXT, "Model that the batch scored with."),
        "realtime_scored_at": (WHEN, "UTC time of the server's answer."),
        "day": (DATE, "UTC day of the transaction."),
    },
    "What was scored in real time, beside what the batch says of it: one row a transaction.",
)
INFERENCE_LEDGER = Table(
    "inference_ledger",
    {
        "asset": (TEXT, "Asset that was scored."),
        "attempt": (pa.int64(), "1, 2, ... of that asset and day."),
        "run_id": (TEXT, "Run that did it."),
        "outcome": (TEXT, "done, interrupted, killed or failed."),
        "started_at": (WHEN, "UTC."),
        "engine": (TEXT, "Who ran the scoring engine: local, ray or spark."),
        "model_version": (TEXT, "Model that scored."),
        "rows": (pa.int64(), "Rows that were given out."),
        "rows_reused": (pa.int64(), "Rows among them whose results were known: not computed."),
        "rows_twice": (pa.int64(), "Rows computed that an earlier attempt had computed before."),
        "read_seconds": (pa.float64(), "Reading the input; stages overlap."),
        "compute_seconds": (pa.float64(), "The model, copies to the device and back included."),
        "write_seconds": (pa.float64(), "Encoding and writing the results."),
        "waiting_seconds": (pa.float64(), "The model had no rows, or no room for its results."),
        "elapsed_seconds": (pa.float64(), "From the first row asked for to the end."),
        "device": (TEXT, "Where the model ran, as torch names it."),
        "device_name": (TEXT, "The GPU's name; null where there is none."),
        "devices": (pa.float64(), "How many were held; for a CPU, the machine is one."),
        "device_seconds": (pa.float64(), "elapsed_seconds times devices."),
        "precision": (TEXT, "Precision of the matrix products."),
        "compiled": (pa.bool_(), "The model ran as compiled by torch.compile."),
        "threads": (pa.int64(), "Threads that computed."),
        "batch_rows": (pa.int64(), "Rows of a compute batch, as far as it settled."),
        "out_of_memory": (pa.int64(), "Batches done again in smaller ones, for want of memory."),
        "peak_memory_bytes": (pa.int64(), "Most memory of the device, or of a CPU's process."),
        "bytes_read": (pa.int64(), "Input, as record batches."),
        "bytes_written": (pa.int64(), "Files of the results."),
        "gpu_utilisation": (
            pa.float64(),
            "Mean, 0 to 1; null where there is no GPU.",
        ),
        "gpu_memory_bytes": (pa.int64(), "Most memory in use, by all; null where there is no GPU."),
        "gpu_temperature": (
            pa.float64(),
            "Highest, Celsius; null where there is no GPU.",
        ),
        "price_per_device_hour": (pa.float64(), "Average over the time; null without prices."),
        "price_kind": (TEXT, "normal, off-peak or spot; with a plus where it changed meanwhile."),
        "money": (pa.float64(), "device_seconds at that price; null without prices."),
        "currency": (TEXT, "ISO 4217 code; null without prices."),
        "day": (DATE, "UTC day that was scored."),
    },
    "What scoring took and cost: one row an asset, day and attempt.",
)

TABLES = (
    RAW_TRANSACTIONS,
    RAW_LABELS,
    RAW_RATES,
    INGESTED_FILES,
    REPEATED_KEYS,
    EXCHANGE_RATES,
    CLEAN_TRANSACTIONS,
    QUARANTINED_TRANSACTIONS,
    DUPLICATE_TRANSACTIONS,
    FRAUD_LABELS,
    QUARANTINED_LABELS,
    QUARANTINED_RATES,
    CUSTOMER_DAYS,
    TERMINAL_DAYS,
    TERMINAL_FRAUDS,
    TRANSACTION_FEATURES,
    FRAUD_PREDICTIONS,
    DAILY_RISK_REPORT,
    PREDICTION_QUALITY,
    FEATURE_DRIFT,
    REALTIME_RECONCILIATION,
    INFERENCE_LEDGER,
)
