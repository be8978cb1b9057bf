"""The fifteen features of the fraud handbook: names, types, and the days each one looks back on.

The definition itself stands in ``sql/transaction_features.sql``; what is known of a transaction
when it happens, and nothing later.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

import pyarrow as pa

WINDOW_DAYS = (1, 7, 30)
LABEL_DELAY_DAYS = 7
"""Days by which terminal windows are moved back: what a fraud label takes to arrive."""

LOOK_BACK_DAYS = LABEL_DELAY_DAYS + max(WINDOW_DAYS)
"""No feature of a day reads a day further back than this."""

CUSTOMER_EDGE_DAYS = (0, *WINDOW_DAYS)
"""Days back from a scored day whose rows decide what a customer's windows hold."""

TERMINAL_EDGE_DAYS = (LABEL_DELAY_DAYS, *(LABEL_DELAY_DAYS + w for w in WINDOW_DAYS))
"""The same for terminals."""

DayRange = tuple[date, date]
"""First and last day, both included."""


@dataclass(frozen=True)
class Feature:
    """A column of ``transaction_features`` that the model reads; never null."""

    name: str
    type: pa.DataType
    description: str


def _days(count: int) -> str:
    return "day" if count == 1 else f"{count} days"


def _per_window(name: str, kind: pa.DataType, description: str) -> tuple[Feature, ...]:
    return tuple(Feature(name.format(w), kind, description.format(_days(w))) for w in WINDOW_DAYS)


FEATURES: tuple[Feature, ...] = (
    Feature("amount", pa.float64(), "Amount, reporting currency."),
    Feature("during_weekend", pa.int32(), "1 on Saturday and Sunday, by the feed's local clock."),
    Feature("during_night", pa.int32(), "1 from 00:00 to 06:59, by the feed's local clock."),
    *_per_window(
        "customer_tx_count_{}d",
        pa.int32(),
        "Transactions of the customer in the {} up to and with this moment.",
    ),
    *_per_window(
        "customer_amount_mean_{}d",
        pa.float64(),
        "Mean amount of the customer in the {} up to and with this moment, reporting currency.",
    ),
    *_per_window(
        "terminal_tx_count_{}d",
        pa.int32(),
        f"Transactions at the terminal in the {{}} that ended {LABEL_DELAY_DAYS} days ago.",
    ),
    *_per_window(
        "terminal_fraud_share_{}d",
        pa.float64(),
        f"Share of frauds known by now at the terminal in the {{}} that ended {LABEL_DELAY_DAYS} "
        "days ago, 0 to 1; 0 without transactions.",
    ),
)


def days_read(first_day: date, last_day: date) -> dict[str, tuple[DayRange, ...]]:
    """Days of each table that ``transaction_features`` of a range of days reads.

    Returns:
        Table -> ranges of days, in order and apart from each other. Days of ``clean_transactions``
        are read row by row; of the days between them, only the totals.
    """
    edges = {*CUSTOMER_EDGE_DAYS, *TERMINAL_EDGE_DAYS}
    rows = {d for back in edges for d in _every_day(_back(first_day, back), _back(last_day, back))}
    customers = _between_edges(CUSTOMER_EDGE_DAYS, first_day, last_day)
    terminals = _between_edges(TERMINAL_EDGE_DAYS, first_day, last_day)
    labelled = _back(last_day, LABEL_DELAY_DAYS)
    return {
        "clean_transactions": _ranges(rows),
        "customer_days": _ranges(customers),
        "terminal_days": _ranges(terminals),
        "terminal_frauds": ((_back(first_day, LOOK_BACK_DAYS), labelled),),
    }


def days_touched(table: str, day: date) -> DayRange:
    """Days whose features can change when a day of a table changes.

    Args:
        table: ``clean_transactions`` or ``fraud_labels``.
    """
    nearest = {"clean_transactions": 0, "fraud_labels": LABEL_DELAY_DAYS}[table]
    return day + timedelta(days=nearest), day + timedelta(days=LOOK_BACK_DAYS)


def _between_edges(edges: tuple[int, ...], first_day: date, last_day: date) -> set[date]:
    """Days wholly inside or outside each window of every row of the scored days."""
    pairs = zip(edges[1:], edges[:-1], strict=True)
    return {
        day
        for older, newer in pairs
        for day in _every_day(_back(last_day, older - 1), _back(first_day, newer + 1))
    }


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
