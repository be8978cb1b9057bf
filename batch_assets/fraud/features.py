"""What the model knows of a transaction: names, types, and the days each feature looks back on.

The definition itself stands in ``sql/transaction_features.sql``; what is known of a transaction
when it happens, and nothing later.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

import pyarrow as pa

WINDOW_DAYS = (1, 7, 30)
LABEL_DELAY_DAYS = 7
"""Days by which windows of labels are moved back: what a fraud label takes to arrive."""

LOOK_BACK_DAYS = LABEL_DELAY_DAYS + max(WINDOW_DAYS)
"""No feature of a day reads a day further back than this."""

EDGE_DAYS = (0, *WINDOW_DAYS, *(LABEL_DELAY_DAYS + w for w in WINDOW_DAYS))
"""Days back from a scored day whose rows decide what the windows hold."""

DayRange = tuple[date, date]
"""First and last day, both included."""


@dataclass(frozen=True)
class Feature:
    """A column of ``transaction_features`` that the model reads; never null.

    ``group`` says what it is made from, in a few words: what is left out together to see what
    it adds. ``look_back`` is how many days back it reads at most.
    """

    name: str
    type: pa.DataType
    description: str
    group: str
    look_back: int = LOOK_BACK_DAYS


def _days(count: int) -> str:
    return "day" if count == 1 else f"{count} days"


def _per_window(
    group: str, name: str, kind: pa.DataType, description: str, ended: int = 0
) -> tuple[Feature, ...]:
    return tuple(
        Feature(name.format(w), kind, description.format(_days(w)), group, ended + w)
        for w in WINDOW_DAYS
    )


_COUNT, _NUMBER = pa.int32(), pa.float64()
_BASE, _AMOUNTS, _LABELS, _RUNS = "windows", "amounts", "known frauds", "runs of frauds"
_SETTLED = f"that ended {LABEL_DELAY_DAYS} days ago"

FEATURES: tuple[Feature, ...] = (
    Feature("amount", _NUMBER, "Amount, reporting currency.", _BASE, 0),
    Feature(
        "during_weekend", _COUNT, "1 on Saturday and Sunday, by the feed's local clock.", _BASE, 0
    ),
    Feature("during_night", _COUNT, "1 from 00:00 to 06:59, by the feed's local clock.", _BASE, 0),
    *_per_window(
        _BASE,
        "customer_tx_count_{}d",
        _COUNT,
        "Transactions of the customer in the {} up to and with this moment.",
    ),
    *_per_window(
        _BASE,
        "customer_amount_mean_{}d",
        _NUMBER,
        "Mean amount of the customer in the {} up to and with this moment, reporting currency.",
    ),
    *_per_window(
        _BASE,
        "terminal_tx_count_{}d",
        _COUNT,
        f"Transactions at the terminal in the {{}} {_SETTLED}.",
        LABEL_DELAY_DAYS,
    ),
    *_per_window(
        _BASE,
        "terminal_fraud_share_{}d",
        _NUMBER,
        f"Share of frauds known by now at the terminal in the {{}} {_SETTLED}, 0 to 1; 0 without "
        "transactions.",
        LABEL_DELAY_DAYS,
    ),
    Feature(
        "customer_amount_ratio_7d",
        _NUMBER,
        "Amount over the mean of the customer's others of 7 days; 1 without others.",
        _AMOUNTS,
        look_back=7,
    ),
    Feature(
        "customer_amount_ratio_30d",
        _NUMBER,
        "Amount over the mean of the customer's others of 30 days; 1 without others.",
        _AMOUNTS,
    ),
    Feature(
        "customer_amount_ratio_before_7d",
        _NUMBER,
        "Amount over the customer's mean of 30 to 7 days ago; 1 without transactions then.",
        _AMOUNTS,
    ),
    Feature(
        "customer_amount_spread_30d",
        _NUMBER,
        "Standard deviation of the customer's others of 30 days, reporting currency; 0 without.",
        _AMOUNTS,
    ),
    Feature(
        "customer_amount_deviation_30d",
        _NUMBER,
        "Amount less the mean of the customer's others of 30 days, in standard deviations of "
        "these and one more that is off by the mean itself; 0 without others.",
        _AMOUNTS,
    ),
    Feature(
        "customer_max_ratio_30d",
        _NUMBER,
        "Amount over the customer's largest earlier one of 30 days; 1 without.",
        _AMOUNTS,
    ),
    Feature(
        "customer_peak_7d",
        _NUMBER,
        "The customer's largest earlier amount of 7 days over the mean of the others of 30 days; "
        "1 without.",
        _AMOUNTS,
    ),
    Feature(
        "customer_fraud_count_30d",
        _COUNT,
        f"Frauds of the customer known by now in the 30 days {_SETTLED}.",
        _LABELS,
    ),
    Feature(
        "customer_days_since_fraud",
        _NUMBER,
        f"Days since the customer's last fraud known by now, {LABEL_DELAY_DAYS} days old at "
        f"least; {LOOK_BACK_DAYS} at most.",
        _LABELS,
    ),
    Feature(
        "terminal_fraud_count_30d",
        _COUNT,
        f"Frauds known by now at the terminal in the 30 days {_SETTLED}.",
        _LABELS,
    ),
    Feature(
        "terminal_usual_fraud_count_30d",
        _COUNT,
        "Those of them that are at most one and a half times what else their customers paid, on "
        "average, that day and the six after it.",
        _LABELS,
    ),
    Feature(
        "terminal_fraud_excess_30d",
        _NUMBER,
        "Mean over them of the amount over that average, 10 at most each, and 1 where the customer "
        "paid nothing else; 0 without frauds.",
        _LABELS,
    ),
    Feature(
        "terminal_days_since_fraud",
        _NUMBER,
        f"Days since the last fraud known by now at the terminal, {LABEL_DELAY_DAYS} days old at "
        f"least; {LOOK_BACK_DAYS} at most.",
        _LABELS,
    ),
    Feature(
        "terminal_days_clean",
        _NUMBER,
        "Days from the last fraud known by now at the terminal to the last transaction there that "
        f"is {LABEL_DELAY_DAYS} days old at least; {LOOK_BACK_DAYS} without such a fraud.",
        _LABELS,
    ),
    Feature(
        "terminal_fraud_run_days",
        _COUNT,
        "UTC days since the first fraud known by now at the terminal after the last day with "
        f"another transaction there, of {LABEL_DELAY_DAYS + 1} to {LOOK_BACK_DAYS} days ago; 0 if "
        "no fraud followed that day.",
        _RUNS,
    ),
    Feature(
        "terminal_fraud_run_days_at_most",
        _COUNT,
        f"UTC days since that last day, {LOOK_BACK_DAYS} if there is none; 0 if no fraud followed.",
        _RUNS,
    ),
)


def days_read(first_day: date, last_day: date) -> dict[str, tuple[DayRange, ...]]:
    """Days of each table that ``transaction_features`` of a range of days reads.

    Returns:
        Table -> ranges of days, in order and apart from each other. Days of ``clean_transactions``
        are read row by row; of the other days, only totals and frauds.
    """
    rows = {
        day
        for back in EDGE_DAYS
        for day in _every_day(_back(first_day, back), _back(last_day, back))
    }
    oldest = _back(first_day, LOOK_BACK_DAYS)
    labelled = _back(last_day, LABEL_DELAY_DAYS)
    return {
        "clean_transactions": _ranges(rows),
        "customer_days": ((oldest, _back(last_day, 1)),),
        "terminal_days": ((oldest, _back(last_day, LABEL_DELAY_DAYS + 1)),),
        "terminal_frauds": ((oldest, labelled),),
    }


def days_touched(table: str, day: date) -> DayRange:
    """Days whose features can change when a day of a table changes.

    Args:
        table: ``clean_transactions`` or ``fraud_labels``.
    """
    nearest = {"clean_transactions": 0, "fraud_labels": LABEL_DELAY_DAYS}[table]
    return day + timedelta(days=nearest), day + timedelta(days=LOOK_BACK_DAYS)


def _back(day: date, days: int) -> date:
    return day - timedelta(days=days)


def _every_day(first: date, last: date) -> list[date]:
    return [first + timedelta(days=i) for i in range((last - first).days + 1)]


def _ranges(days: Iterable[date]) -> tuple[DayRange, ...]:
    ranges: list[DayRange] = []
    for day in sorted(days):
        if ranges and (day - ranges[-1][1]).days == 1:
            ranges[-1] = (ranges[-1][0], day)
        else:
            ranges.append((day, day))
    return tuple(ranges)
