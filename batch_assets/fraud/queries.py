"""What people ask of the results: status, alerts, similar transactions, SQL, an export."""

import os
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa

from batch_assets.errors import BatchAssetsError
from batch_assets.fraud import tables
from batch_assets.fraud.embeddings import EMBEDDINGS, NEIGHBOUR_COLUMNS, with_distance
from batch_assets.fraud.keys import days_between
from batch_assets.fraud.ledger import work_done_twice
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.fraud.scoring import unfinished_days
from batch_assets.fraud.sql import sql_text
from batch_assets.storage.vectors import Equals, Range
from batch_assets.storage.warehouse import Snapshot

ASSET_TABLES = (
    tables.RAW_TRANSACTIONS,
    tables.RAW_LABELS,
    tables.RAW_RATES,
    tables.EXCHANGE_RATES,
    tables.CLEAN_TRANSACTIONS,
    tables.QUARANTINED_TRANSACTIONS,
    tables.DUPLICATE_TRANSACTIONS,
    tables.FRAUD_LABELS,
    tables.QUARANTINED_LABELS,
    tables.QUARANTINED_RATES,
    tables.TRANSACTION_FEATURES,
    tables.FRAUD_PREDICTIONS,
    tables.DAILY_RISK_REPORT,
    tables.PREDICTION_QUALITY,
    tables.FEATURE_DRIFT,
)


def status(pipeline: Pipeline) -> dict[str, Any]:
    """Of each asset: days present, missing and outdated, the newest, and rows; and the files.

    A day is missing if it lies between the first partition and the newest day with data and was
    not built. Raw tables have a day for each day on which a file arrived.
    """
    state = pipeline.state()
    expected = days_between(
        pipeline.settings.start_date, max(pipeline.days_with_data(state), default=date.min)
    )
    assets = []
    for table in (*ASSET_TABLES, *(step.table for step in pipeline.own.values())):
        snapshot = state.snapshot(table)
        present = set(snapshot.by_day)
        raw = table.name.startswith("raw_")
        assets.append(_asset_status(table.name, present, [] if raw else expected, snapshot.rows()))
    predicted = state.snapshot(tables.FRAUD_PREDICTIONS).by_day
    vectors = state.vector_keys
    empty = {d for d in predicted if not state.snapshot(tables.FRAUD_PREDICTIONS).rows([d])}
    rows = sum(count for _, count in vectors.values())
    assets.append(_asset_status(EMBEDDINGS.name, set(vectors) | empty, expected, rows))
    return {
        "assets": assets,
        "outdated_days": [str(d) for d in pipeline.stale_days(sorted(predicted))],
        "files": _files_status(pipeline),
        "scoring": _scoring_status(pipeline),
        "model_version": state.model_version,
    }


def _scoring_status(pipeline: Pipeline) -> dict[str, Any]:
    """Work done twice, ever; days that a run left unfinished; whether the cache pays."""
    twice = work_done_twice(pipeline.warehouse, date.min, date.max)
    return {
        "rows_computed_twice": sum(twice.values()),
        "rows_computed_twice_of_days": {str(day): rows for day, rows in twice.items()},
        "unfinished_days": [
            {"day": str(day), "rows_kept": rows}
            for day, rows in unfinished_days(pipeline.warehouse).items()
        ],
        "embedding_cache": pipeline.cache_report(),
    }


def _asset_status(
    name: str, present: set[date], expected: Sequence[date], rows: int
) -> dict[str, Any]:
    missing = [day for day in expected if day not in present]
    return {
        "asset": name,
        "days_present": len(present),
        "days_missing": len(missing),
        "missing": [str(day) for day in missing],
        "first_day": str(min(present)) if present else None,
        "newest_day": str(max(present)) if present else None,
        "rows": rows,
    }


def _files_status(pipeline: Pipeline) -> dict[str, Any]:
    looks = pipeline.looks()
    seen = [row for look in looks for row in look.seen.values()]
    return {
        "seen": len(seen),
        "new": sum(len(look.news()) for look in looks),
        "copies": sum(1 for row in seen if row["copy_of"]),
        "noted": [
            {"file": row["file"], "note": row["note"]}
            for row in sorted(seen, key=lambda r: str(r["file"]))
            if row["note"]
        ],
        "damaged": query(pipeline, sql_text("damaged_files")).to_pylist(),
    }


def alerts(pipeline: Pipeline, day: date, top: int, snapshot: Snapshot | None = None) -> pa.Table:
    """The riskiest customers of a day: rank, customer_id, max_score, transaction_id, and more.

    The reasons are those of the daily risk report: of the first 100, null where it is not built.

    Args:
        snapshot: of the predictions; by default the newest.
    """
    snapshot = snapshot or pipeline.warehouse.snapshot(tables.FRAUD_PREDICTIONS)
    if day not in snapshot.by_day:
        newest = max(snapshot.by_day, default=None)
        raise BatchAssetsError(
            f"{day} is not scored; the newest scored day is {newest or 'none'}: "
            f"run `batch-assets run --from {day} --to {day}`"
        )
    with pipeline.warehouse.connect() as connection:
        snapshot.register(connection, snapshot.on([day]))
        report = pipeline.warehouse.snapshot(tables.DAILY_RISK_REPORT)
        report.register(connection, report.on([day]))
        return connection.sql(sql_text("alerts"), params={"top": top}).to_arrow_table()


def similar(
    pipeline: Pipeline,
    transaction_id: str | None = None,
    *,
    vector: Sequence[float] | None = None,
    top: int = 10,
    days: tuple[date | None, date | None] = (None, None),
    customer_id: str | None = None,
    amount: tuple[float | None, float | None] = (None, None),
    score: tuple[float | None, float | None] = (None, None),
    exact: bool = False,
) -> pa.Table:
    """Transactions whose embeddings are nearest to that of a transaction, or to a vector.

    Only vectors of the scoring that the predictions table names are seen.

    Returns:
        Nearest first: transaction_id, day, customer_id, terminal_id, happened_at, amount, score,
        model_version, distance (squared Euclidean).
    """
    state = pipeline.state()
    predictions = state.snapshot(tables.FRAUD_PREDICTIONS)
    filters: list[Any] = []
    if customer_id is not None:
        filters.append(Equals("customer_id", customer_id))
    for column, (low, high) in (("amount", amount), ("score", score)):
        if low is not None or high is not None:
            filters.append(Range(column, low, high))
    found = pipeline.vectors.search(
        EMBEDDINGS,
        vector,
        key=transaction_id,
        k=top,
        days=None if days == (None, None) else days,
        filters=filters,
        exact=exact,
        valid=predictions.keys,
        columns=(*NEIGHBOUR_COLUMNS, "model_version"),
    )
    return with_distance(found)


def _register_all(pipeline: Pipeline, connection: Any, sql: str) -> None:
    for table in pipeline.tables:
        pipeline.warehouse.snapshot(table).register(connection)
    if EMBEDDINGS.name in sql and pipeline.vectors.exists(EMBEDDINGS):
        import lance

        connection.register(EMBEDDINGS.name, lance.dataset(pipeline.vectors.table_uri(EMBEDDINGS)))


def query(pipeline: Pipeline, sql: str) -> pa.Table:
    """Run one SELECT over all tables.

    Raises:
        BatchAssetsError: it is no SELECT, or DuckDB refuses it.
    """
    import duckdb

    with pipeline.warehouse.connect() as connection:
        try:
            statements = connection.extract_statements(sql)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise BatchAssetsError(
                    "only one SELECT statement can be run: the tables are read only"
                )
            _register_all(pipeline, connection, sql)
            root = str(Path(pipeline.warehouse.root).absolute())
            connection.execute(
                "SET allowed_directories = $1", [[root, str(pipeline.warehouse.scratch)]]
            )
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
            return connection.sql(statements[0]).to_arrow_table()
        except duckdb.Error as error:
            raise BatchAssetsError(str(error)) from error


def export(pipeline: Pipeline, path: Path) -> dict[str, int]:
    """Write all tables, the embeddings included, to one DuckDB file, replacing it at the end.

    Returns:
        Rows by table.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows: dict[str, int] = {}
    try:
        with pipeline.warehouse.connect() as connection:
            _register_all(pipeline, connection, EMBEDDINGS.name)
            connection.execute(f"ATTACH '{str(partial).replace(chr(39), chr(39) * 2)}' AS exported")
            names = [
                row[0]
                for row in connection.execute(
                    "SELECT view_name FROM duckdb_views() WHERE NOT internal"
                ).fetchall()
            ]
            for name in sorted(names):
                connection.execute(f"CREATE TABLE exported.{name} AS SELECT * FROM {name}")
                count = connection.execute(f"SELECT count(*) FROM exported.{name}").fetchall()
                rows[name] = count[0][0]
                pipeline.progress("export", date.today())
            connection.execute("DETACH exported")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return rows
