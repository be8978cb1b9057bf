"""Transactions as requests give them, made clean by the statements that clean those of files."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from batch_assets.fraud.feeds import Feed, Feeds
from batch_assets.fraud.realtime_request import TransactionRequest
from batch_assets.fraud.sql import sql_text
from batch_assets.fraud.staging import RECORDS, parameters
from batch_assets.fraud.tables import EXCHANGE_RATES
from batch_assets.serving.workload import RowRefused
from batch_assets.settings import Settings
from batch_assets.storage.standing_query import StandingQuery

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Connection

RATES = EXCHANGE_RATES.bare_schema("currency", "rate", "day")
_FIELDS = (
    ("exchange rate", "currency"),
    ("currency", "currency"),
    ("amount", "amount"),
    ("time", "happened_at"),
    ("key", "transaction_id"),
    ("customer", "customer_id"),
    ("terminal", "terminal_id"),
)
"""What a reason speaks of -> the field to change; the first that it names."""


class Cleaning:
    """Makes rows clean.

    Args:
        rates: gives the exchange rates of days as the batch would use them now.
        today: the day on which rows arrive.
    """

    def __init__(
        self,
        settings: Settings,
        feeds: Feeds,
        rates: Callable[[Sequence[date]], pa.Table],
        today: Callable[[], date] = lambda: datetime.now(UTC).date(),
    ) -> None:
        self._settings, self._rates, self._today = settings, rates, today
        self._feeds = {feed.name: feed for feed in feeds.of_kind("transactions")}
        self._read: dict[str, StandingQuery] = {}
        self._priced: StandingQuery | None = None

    def run(self, rows: Sequence[TransactionRequest]) -> tuple[pa.Table, dict[int, RowRefused]]:
        """Columns of ``clean_transactions`` of the rows, in their order, and refusals by place."""
        by_feed: dict[str, list[int]] = defaultdict(list)
        refused: dict[int, RowRefused] = {}
        for place, row in enumerate(rows):
            try:
                by_feed[self._feed(row).name].append(place)
            except RowRefused as why:
                refused[place] = why
        if not by_feed:
            return pa.table({}), refused
        raw = [self._raw(name, rows, places) for name, places in by_feed.items()]
        clean = self._price(pa.concat_tables(raw)).sort_by("row_number")
        for row in clean.select(["row_number", "reasons"]).to_pylist():
            if row["reasons"]:
                refused[row["row_number"]] = _refusal(row["reasons"])
        return clean.filter(pc.equal(pc.list_value_length(clean["reasons"]), 0)), refused

    def close(self) -> None:
        """End the statements."""
        for query in [*self._read.values(), *([self._priced] if self._priced else [])]:
            query.close()

    def _feed(self, row: TransactionRequest) -> Feed:
        names = ", ".join(sorted(self._feeds))
        if row.feed is not None:
            if row.feed not in self._feeds:
                raise RowRefused("feed", f"there is no such feed of transactions; known: {names}")
            return self._feeds[row.feed]
        if len(self._feeds) != 1:
            raise RowRefused("feed", f"say with which feed it will come: one of {names}")
        return next(iter(self._feeds.values()))

    def _raw(
        self, feed: str, rows: Sequence[TransactionRequest], places: Sequence[int]
    ) -> pa.Table:
        """Records as the feed's files would give them, read by the statement that reads these."""
        query = self._read.get(feed)
        if query is None:
            plain = {"decimal": ".", "time_format": "iso", "prefix": ""}
            written = self._feeds[feed].model_copy(update=plain)
            query = StandingQuery(
                sql_text("ingest"),
                parameters(written, self._settings, "transactions"),
                {"records": RECORDS},
            )
            self._read[feed] = query
        return query.run({"records": _records([rows[n] for n in places], places, self._today())})

    def _price(self, raw: pa.Table) -> pa.Table:
        if self._priced is None:
            self._priced = StandingQuery(
                sql_text("realtime_clean"),
                {},
                {"raw_of_these_days": raw.schema, "exchange_rates": RATES},
                lambda connection: self._prepare(connection, raw.schema),
            )
        days = sorted(set(raw["happened_on"].to_pylist()))
        return self._priced.run({"raw_of_these_days": raw, "exchange_rates": self._rates(days)})

    def _prepare(self, connection: "Connection", raw: pa.Schema) -> None:
        import duckdb

        connection.execute("SET VARIABLE reporting_currency = $1", [self._settings.currency])
        connection.from_arrow(raw.empty_table()).create("raw_of_other_days")
        connection.execute("CREATE TABLE repeated (transaction_id VARCHAR)")
        for statement in duckdb.extract_statements(sql_text("clean_prepare")):
            if "TEMP TABLE" in statement.query:  # the views alone, not what is made of them
                break
            connection.execute(statement)


def _records(rows: Sequence[TransactionRequest], places: Sequence[int], today: date) -> pa.Table:
    columns: dict[str, list[Any]] = {
        "row_number": list(places),
        "key": [row.transaction_id for row in rows],
        "customer": [row.customer_id for row in rows],
        "terminal": [row.terminal_id for row in rows],
        "amount": [format(row.amount, "f") for row in rows],
        "currency": [row.currency for row in rows],
        "time": [row.happened_at for row in rows],
        "file_id": ["request"] * len(rows),
        "file": ["request"] * len(rows),
        "arrived": [today] * len(rows),
    }
    arrays = []
    for field in RECORDS:
        values = columns.get(field.name, [None] * len(rows))
        if pa.types.is_dictionary(field.type):
            arrays.append(
                pa.array(values, field.type.value_type).dictionary_encode().cast(field.type)
            )
        else:
            arrays.append(pa.array(values, field.type))
    return pa.table(arrays, schema=RECORDS)


def _refusal(reasons: Sequence[str]) -> RowRefused:
    field = next((name for word, name in _FIELDS if word in reasons[0]), "transaction_id")
    return RowRefused(field, "; ".join(reasons))
