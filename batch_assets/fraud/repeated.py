"""Keys that were delivered with times on different days, found once when files arrive."""

from collections.abc import Collection
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batch_assets.fraud import tables
from batch_assets.fraud.keys import by_happened_on, file_keys
from batch_assets.fraud.landing import digest
from batch_assets.fraud.sql import sql_text
from batch_assets.storage.warehouse import ConcurrentWrite, StagedFile, Warehouse

ATTEMPTS = 20


def check_repeated_keys(warehouse: Warehouse, days: Collection[date]) -> None:
    """Compare the keys that arrived on ``days`` with all others.

    It runs after raw is committed, so of two processes that deliver the same key at once at
    least the later one sees both.
    """
    for _ in range(ATTEMPTS):
        try:
            return _check(warehouse, days)
        except ConcurrentWrite:
            continue
    raise ConcurrentWrite("repeated_keys: other processes kept changing the same days")


def _check(warehouse: Warehouse, days: Collection[date]) -> None:
    base = warehouse.snapshot(tables.REPEATED_KEYS)
    raw = warehouse.snapshot(tables.RAW_TRANSACTIONS)
    keys = {day: digest(sql_text("repeated_keys"), *file_keys(raw.on([day])))[:16] for day in days}
    stale = [day for day in sorted(days) if base.keys.get(day) != keys[day]]
    if not stale:
        return
    with warehouse.connect() as connection, warehouse.staging() as folder:
        found = {}
        if len(by_happened_on(raw)) > 1:
            raw.register(connection, raw.on(stale), "fresh_records")
            raw.register(connection, None, "all_records")
            table = connection.sql(sql_text("repeated_keys")).to_arrow_table()
            found = {day: _on(table, day) for day in stale}
        staged = []
        for day in stale:
            path = folder / f"{day}.parquet"
            schema = base.table.file_schema
            rows = found[day].cast(schema) if day in found else schema.empty_table()
            pq.write_table(rows.sort_by([(n, "ascending") for n in schema.names]), path)
            staged.append(StagedFile(path, {"day": day}, keys[day]))
        warehouse.replace_days(base, staged, stale)


def _on(table: pa.Table, day: date) -> pa.Table:
    return table.filter(pc.equal(table["day"], pa.scalar(day))).drop_columns("day")
