"""What the batch knows of the days that the features of one day are made from, found by entity."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batch_assets.fraud import tables
from batch_assets.fraud.features import days_read
from batch_assets.fraud.keys import State, days_between
from batch_assets.fraud.sql import sql_text
from batch_assets.serving.hashes import hash_of, hashes_of
from batch_assets.storage.tables import Table

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Connection

Places = npt.NDArray[np.int64]
READ = (
    tables.CLEAN_TRANSACTIONS,
    tables.CUSTOMER_DAYS,
    tables.TERMINAL_DAYS,
    tables.TERMINAL_FRAUDS,
)
KNOWN = tables.CLEAN_TRANSACTIONS.bare_schema(
    "transaction_id",
    "customer_id",
    "terminal_id",
    "happened_at",
    "amount",
    "local_time",
    "day",
)
"""Columns of ``clean_transactions`` that features are made from."""
SCHEMAS = {
    table.name: KNOWN if table is tables.CLEAN_TRANSACTIONS else table.bare_schema()
    for table in READ
}
"""Tables that ``transaction_features`` is made from -> the columns that it reads of them."""
_ENTITIES = ("transaction_id", "customer_id", "terminal_id")


class Indexed:
    """A table whose rows are found by the hash of an id; ids whose hashes are equal come along."""

    def __init__(self, rows: pa.Table) -> None:
        self.rows = rows.combine_chunks()
        self._by: dict[str, tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32]]] = {}
        for name in _ENTITIES:
            if name in rows.column_names:
                column = self.rows[name].combine_chunks()
                places = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
                hashes = hashes_of(column.drop_null())
                order = np.argsort(hashes, kind="stable")
                self._by[name] = hashes[order], places[order].astype(np.uint32)

    def find(self, column: str, ids: Collection[str]) -> Places:
        """Places of the rows with these ids, and of few others."""
        hashes, places = self._by[column]
        wanted = np.fromiter((hash_of(one) for one in ids), np.uint64, len(ids))
        low = np.searchsorted(hashes, wanted, "left")
        high = np.searchsorted(hashes, wanted, "right")
        parts = [places[a:b] for a, b in zip(low, high, strict=True) if a < b]
        return np.concatenate(parts).astype(np.int64) if parts else np.empty(0, np.int64)

    def take(self, *places: Places) -> pa.Table:
        """Rows at these places, each once."""
        return self.rows.take(np.unique(np.concatenate(places)))

    @property
    def bytes(self) -> int:
        """Memory taken."""
        return int(self.rows.nbytes) + sum(
            hashes.nbytes + places.nbytes for hashes, places in self._by.values()
        )


@dataclass(frozen=True)
class KnownDay:
    """What the features of a day are made from; immutable.

    Args:
        key: changes when any of it does.
        tables: name -> rows.
    """

    day: date
    key: str
    tables: Mapping[str, Indexed]

    @property
    def bytes(self) -> int:
        """Memory taken."""
        return sum(one.bytes for one in self.tables.values())

    def holds(self, transaction_id: str) -> bool:
        """Whether the batch has this transaction on the day."""
        clean = self.tables["clean_transactions"]
        places = clean.find("transaction_id", [transaction_id])
        return transaction_id in clean.rows["transaction_id"].take(places).to_pylist()

    def about(
        self, transactions: set[str], customers: set[str], terminals: set[str]
    ) -> dict[str, pa.Table]:
        """Rows of all tables about some customers and terminals, without some transactions."""
        clean, frauds = self.tables["clean_transactions"], self.tables["terminal_frauds"]
        known = clean.take(
            clean.find("customer_id", customers), clean.find("terminal_id", terminals)
        )
        again = pc.is_in(known["transaction_id"], pa.array(list(transactions), pa.string()))
        reported = frauds.take(
            frauds.find("customer_id", customers), frauds.find("terminal_id", terminals)
        )
        spenders = customers.union(reported["customer_id"].to_pylist())
        days, visits = self.tables["customer_days"], self.tables["terminal_days"]
        return {
            "clean_transactions": known.filter(pc.invert(again)),
            "terminal_frauds": reported,
            "customer_days": days.take(days.find("customer_id", spenders)),
            "terminal_days": visits.take(visits.find("terminal_id", terminals)),
        }


def known_key(state: State, day: date) -> str:
    """Changes when anything changes that features of a day are made from."""
    ranges = days_read(day, day)
    keys = []
    for table in READ:
        held = state.snapshot(table).keys
        days = (d for one in ranges[table.name] for d in days_between(*one))
        keys += [f"{table.name} {d} {held[d]}" for d in days if d in held]
    return "\n".join(keys)


def read_known_day(state: State, day: date) -> KnownDay:
    """Read what the features of a day are made from; takes as long as reading some days does."""
    with connected() as connection:
        found = {table.name: Indexed(_rows(connection, state, table, day)) for table in READ}
    return KnownDay(day, known_key(state, day), found)


def known_ids(state: State, days: Mapping[date, Sequence[str]]) -> set[str]:
    """Of transactions by day, those that the batch has."""
    found: set[str] = set()
    snapshot = state.snapshot(tables.CLEAN_TRANSACTIONS)
    with connected() as connection:
        for day, ids in days.items():
            if files := snapshot.on([day]):
                rows = snapshot.relation(connection, files).select("transaction_id")
                held = rows.to_arrow_table()["transaction_id"]
                found.update(held.filter(pc.is_in(held, pa.array(ids, pa.string()))).to_pylist())
    return found


def _rows(connection: "Connection", state: State, table: Table, day: date) -> pa.Table:
    days = [d for one in days_read(day, day)[table.name] for d in days_between(*one)]
    snapshot = state.snapshot(table)
    snapshot.register(connection, snapshot.on(days))
    if table is tables.CLEAN_TRANSACTIONS:
        found = connection.sql(sql_text("realtime_known"), params={"day": day})
    else:
        found = connection.view(table.name)
    return found.to_arrow_table().cast(SCHEMAS[table.name])


@contextmanager
def connected() -> "Iterator[Connection]":
    """A connection for some rows in memory; times are UTC."""
    import duckdb

    with duckdb.connect(config={"threads": 1, "autoload_known_extensions": False}) as connection:
        connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        yield connection
