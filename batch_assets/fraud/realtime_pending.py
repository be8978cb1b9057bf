"""Transactions that were scored in real time and that no batch has yet."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import date
from typing import Any

import pyarrow as pa

from batch_assets.fraud.realtime_known import KNOWN, SCHEMAS, connected
from batch_assets.fraud.sql import sql_text

Row = dict[str, Any]
TOTALS = ("customer_days", "terminal_days")


class Pending:
    """Rows of ``clean_transactions`` by id, found by customer and by terminal."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}
        self._of: dict[str, dict[str, set[str]]] = {
            "customer_id": defaultdict(set),
            "terminal_id": defaultdict(set),
        }

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, transaction_id: str) -> bool:
        return transaction_id in self._rows

    def add(self, rows: Iterable[Row]) -> None:
        """Count rows among what is known."""
        for row in rows:
            self._rows[row["transaction_id"]] = row
            for column, of in self._of.items():
                of[row[column]].add(row["transaction_id"])

    def drop(self, ids: Iterable[str]) -> None:
        """Forget rows: the batch has them."""
        for one in ids:
            row = self._rows.pop(one, None)
            if row is None:
                continue
            for column, of in self._of.items():
                of[row[column]].discard(one)
                if not of[row[column]]:
                    del of[row[column]]

    def by_day(self) -> dict[date, list[str]]:
        """Ids a day."""
        days: dict[date, list[str]] = defaultdict(list)
        for one, row in self._rows.items():
            days[row["day"]].append(one)
        return dict(days)

    def about(
        self,
        day: date,
        without: set[str],
        customers: set[str],
        terminals: set[str],
        spenders: Iterable[str] = (),
    ) -> dict[str, pa.Table]:
        """Rows of some customers and terminals, and their totals of days before yesterday.

        Args:
            day: that is scored; later days do not matter.
            without: ids that are left out.
            spenders: customers of whom only the totals matter.
        """
        ids = {i for c in {*customers, *spenders} for i in self._of["customer_id"].get(c, ())}
        ids |= {i for t in terminals for i in self._of["terminal_id"].get(t, ())}
        rows = [self._rows[one] for one in sorted(ids - without) if self._rows[one]["day"] <= day]
        found = {"clean_transactions": pa.Table.from_pylist(rows, KNOWN)}
        old = [row for row in rows if (day - row["day"]).days > 1]
        return found | (_totals(pa.Table.from_pylist(old, KNOWN)) if old else {})


def _totals(rows: pa.Table) -> dict[str, pa.Table]:
    """As the batch adds them up. A customer's, or a terminal's, may be of only some rows."""
    days = sorted(set(rows["day"].to_pylist()))
    with connected() as connection:
        connection.register("clean_transactions", rows)
        return {
            name: connection.sql(
                sql_text(name), params={"first_day": days[0], "last_day": days[-1]}
            )
            .to_arrow_table()
            .cast(SCHEMAS[name])
            for name in TOTALS
        }
