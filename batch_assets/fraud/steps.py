"""The steps in which a day is made, and what decides the content of each."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from batch_assets.fraud import tables
from batch_assets.fraud.features import LOOK_BACK_DAYS
from batch_assets.fraud.landing import digest
from batch_assets.fraud.sql import sql_text
from batch_assets.storage.tables import Table


@dataclass(frozen=True)
class Step:
    """Tables that are built together, a day at a time, and what decides their content.

    Args:
        tables: in the order of their commits; the last one says that the day is done.
        upstream: steps whose days from ``look_back`` days before a day to that day go into it.
        same_day: those of them of which the day alone goes into it.
        statements: SQL files that prepare the views which the tables' own statements read.
        code: other files of the package, by their path in it, that decide the content.
    """

    name: str
    tables: tuple[Table, ...]
    upstream: tuple[str, ...] = ()
    look_back: int = 0
    same_day: tuple[str, ...] = ()
    statements: tuple[str, ...] = ()
    code: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """Changes when the SQL or code of the step changes; the code version in Dagster."""
        names = [*self.statements, *(table.name for table in self.tables)]
        columns = [f"{t.name}:{t.schema}" for t in self.tables]
        code = map(_code, self.code)
        return digest(*(_sql_or_name(name) for name in names), *columns, *code)[:8]


def _sql_or_name(name: str) -> str:
    try:
        return sql_text(name)
    except FileNotFoundError:
        return name


@cache
def _code(path: str) -> str:
    return files("batch_assets").joinpath(path).read_text(encoding="utf-8")


RATES = Step(
    "exchange_rates",
    (tables.QUARANTINED_RATES, tables.EXCHANGE_RATES),
    statements=("exchange_rates_prepare",),
)
CLEAN = Step(
    "clean_transactions",
    (tables.QUARANTINED_TRANSACTIONS, tables.DUPLICATE_TRANSACTIONS, tables.CLEAN_TRANSACTIONS),
    upstream=("exchange_rates",),
    statements=("clean_prepare",),
)
LABELS = Step(
    "fraud_labels",
    (tables.QUARANTINED_LABELS, tables.FRAUD_LABELS),
    upstream=("clean_transactions",),
    statements=("fraud_labels_prepare",),
)
TOTALS = Step(
    "daily_totals",
    (tables.CUSTOMER_DAYS, tables.TERMINAL_DAYS, tables.TERMINAL_FRAUDS),
    upstream=("clean_transactions", "fraud_labels"),
)
FEATURES = Step(
    "transaction_features",
    (tables.TRANSACTION_FEATURES,),
    upstream=("daily_totals",),
    look_back=LOOK_BACK_DAYS,
)
PREDICTIONS = Step(
    "fraud_predictions", (tables.FRAUD_PREDICTIONS,), upstream=("transaction_features",)
)
REPORT = Step(
    "daily_risk_report",
    (tables.DAILY_RISK_REPORT,),
    upstream=("fraud_predictions", "transaction_features"),
    statements=("daily_risk_report_prepare",),
    code=(
        "fraud/sql/alert_features.sql",
        "fraud/sql/feature_medians.sql",
        "fraud/features.py",
        "fraud/reasons.py",
        "fraud/sentences.py",
        "inference/attribution.py",
    ),
)
QUALITY = Step(
    "prediction_quality",
    (tables.PREDICTION_QUALITY,),
    upstream=("fraud_predictions", "fraud_labels"),
    look_back=30,
    same_day=("fraud_predictions",),
)
DRIFT = Step(
    "feature_drift",
    (tables.FEATURE_DRIFT,),
    upstream=("fraud_predictions",),
    code=("fraud/drift.py", "fraud/sql/drift_rows.sql"),
)

STEPS = {
    step.name: step
    for step in (RATES, CLEAN, LABELS, TOTALS, FEATURES, PREDICTIONS, REPORT, QUALITY, DRIFT)
}
