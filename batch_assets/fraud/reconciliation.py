"""What servers said in real time of transactions, compared with what the batch says of them."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from batch_assets.errors import BatchAssetsError
from batch_assets.fraud import tables
from batch_assets.fraud.build import Built
from batch_assets.fraud.keys import State
from batch_assets.fraud.landing import digest
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.fraud.sql import sql_text
from batch_assets.serving.realtime_store import FILE
from batch_assets.serving.security import FOLDER
from batch_assets.storage.tables import DAY
from batch_assets.storage.warehouse import ConcurrentWrite, StagedFile

TABLE = tables.REALTIME_RECONCILIATION
TOLERANCE = 1e-6
"""Scores that differ by no more agree."""
WORKLOAD = "fraud"
ATTEMPTS = 20
_TOLD = tables.FRAUD_PREDICTIONS.bare_schema(
    "transaction_id",
    "customer_id",
    "terminal_id",
    "happened_at",
    "amount",
    "score",
    "model_version",
    "scored_at",
)
_EPOCH = datetime(1970, 1, 1)
Row = dict[str, Any]


def realtime_file(home: Path) -> Path:
    """Where the servers of a data home keep what they scored."""
    return home / FOLDER / FILE


def reconcile(pipeline: Pipeline, days: Sequence[date], built: Built) -> Built:
    """Compare days anew; a day of which no server said anything, and never did, is left alone."""
    told = told_by_servers(realtime_file(pipeline.settings.home), days)
    for _ in range(ATTEMPTS):
        state = pipeline.state()
        left = [day for day in days if day not in built.made and day not in built.unchanged]
        try:
            for day in left:
                of_day = built.made if _reconcile(pipeline, state, day, told) else built.unchanged
                of_day.append(day)
                pipeline.progress(TABLE.name, day)
            return built
        except ConcurrentWrite:
            continue
    raise ConcurrentWrite(f"{TABLE.name}: other processes kept changing the same days")


def told_by_servers(path: Path, days: Sequence[date]) -> dict[date, pa.Table]:
    """Rows of some days in the servers' file; none if there is no file. Only reads.

    Raises:
        BatchAssetsError: the file cannot be read.
    """
    if not path.exists():
        return {}
    names = ", ".join(_TOLD.names)
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection:
            found = {
                day: connection.execute(
                    f"SELECT {names} FROM {WORKLOAD} WHERE day = ?", (str(day),)
                ).fetchall()
                for day in days
            }
    except sqlite3.Error as error:
        raise BatchAssetsError(
            f"{path} cannot be read: {error}; if it is damaged, move it away"
        ) from error
    return {day: _as_table(rows) for day, rows in found.items() if rows}


def differences(pipeline: Pipeline, days: Sequence[date]) -> dict[date, Row]:
    """Of each day that was compared: rows by status and cause, and the largest difference."""
    snapshot = pipeline.warehouse.snapshot(TABLE)
    with pipeline.warehouse.connect() as connection:
        snapshot.register(connection, snapshot.on(days))
        rows = connection.sql(sql_text("reconciled_days")).to_arrow_table().to_pylist()
    return {row[DAY]: row for row in rows}


def _reconcile(pipeline: Pipeline, state: State, day: date, told: dict[date, pa.Table]) -> bool:
    """Write a day, if it is not as it is to be; says whether."""
    warehouse, base = pipeline.warehouse, state.snapshot(TABLE)
    if day not in told and day not in base.by_day:
        return False
    rows = told.get(day, _TOLD.empty_table())
    predictions = state.snapshot(tables.FRAUD_PREDICTIONS)
    with warehouse.connect() as connection, warehouse.staging() as folder:
        connection.register("realtime", rows)
        base.register(connection, base.on([day]), "recorded")
        predictions.register(connection, predictions.on([day]))
        found = connection.sql(
            sql_text("realtime_reconciliation"), params={"tolerance": TOLERANCE}
        ).to_arrow_table()
        found = found.select(TABLE.file_schema.names).cast(TABLE.file_schema)
        key = digest(sql_text("realtime_reconciliation"), str(found.to_pylist()))[:16]
        if base.keys.get(day) == key:
            return False
        path = folder / f"{TABLE.name}-{day}.parquet"
        pq.write_table(found, path, compression="zstd")
        warehouse.replace_days(base, [StagedFile(path, {DAY: day}, key)], [day])
    return True


def _as_table(rows: list[tuple[Any, ...]]) -> pa.Table:
    columns = [list(column) for column in zip(*rows, strict=True)]
    for place, field in enumerate(_TOLD):
        if pa.types.is_timestamp(field.type):
            columns[place] = [_EPOCH + timedelta(microseconds=value) for value in columns[place]]
    return pa.table(columns, schema=_TOLD)
