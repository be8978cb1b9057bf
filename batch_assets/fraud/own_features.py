"""Features of one's own: the steps that build them, and their values for given transactions.

A file's SELECT is run for one day at a time, over what is known on that day and the days that it
looks back on, and nothing else. So a day is a function of its key, whatever the statement does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batch_assets.fraud import tables
from batch_assets.fraud.feature_rows import own_columns
from batch_assets.fraud.keys import CLEAN, LABELS, RATES, TOTALS, State, Step, days_between
from batch_assets.fraud.landing import digest
from batch_assets.fraud.own_files import INPUTS, OWN, OwnFeatureError, OwnFile, own_files
from batch_assets.fraud.sql import sql_text
from batch_assets.storage.tables import Table
from batch_assets.storage.warehouse import DataFile, StagedFile

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Connection

_MADE_BY = {
    table.name: step.name for step in (RATES, CLEAN, LABELS, TOTALS) for table in step.tables
}
_NO_TRANSACTIONS = tables.CLEAN_TRANSACTIONS.schema.empty_table()


@dataclass(frozen=True)
class OwnStep(Step):
    """A step that runs the SELECT of a file, which decides its version."""

    file: OwnFile = field(kw_only=True)

    @property
    def version(self) -> str:
        """Changes when the statement, its columns or how it is run change; not with comments."""
        ours = map(sql_text, ("own_inputs", "own_columns"))
        return digest(self.file.select, *self.file.reads, *self.file.columns, *ours)[:8]

    @property
    def table(self) -> Table:
        """The one table."""
        return self.tables[0]


def own_steps(home: Path) -> dict[str, OwnStep]:
    """The step of each SQL file of a data home that can be used, by its name."""
    steps = (own_step(file) for file in own_files(home) if not file.problem)
    return {step.name: step for step in steps}


def own_step(file: OwnFile) -> OwnStep:
    """The step of a file that can be used."""
    name = f"{OWN}{file.name}"
    upstream = tuple(dict.fromkeys(_MADE_BY[read] for read in file.reads))
    alone = () if CLEAN.name in upstream else (CLEAN.name,)
    return OwnStep(
        name,
        (own_table(file),),
        upstream=(*upstream, *alone),
        look_back=file.look_back,
        same_day=alone,
        file=file,
    )


def own_table(file: OwnFile) -> Table:
    """The table of a file; a number is missing (null) where the statement gives no finite one."""
    return Table(
        f"{OWN}{file.name}",
        {
            "transaction_id": (pa.string(), "Key."),
            **{name: (pa.float64(), said) for name, said in file.features.items()},
            "day": (pa.date32(), "UTC day."),
        },
        f"Features of one's own, features/{file.path.name}: one row a clean transaction."
        + (f" It cannot be used: {file.problem}" if file.problem else ""),
        columns_may_change=True,
    )


def stage_own(
    step: OwnStep, connection: "Connection", state: State, days: Sequence[date], folder: Path
) -> dict[Table, list[StagedFile]]:
    """Stage the columns of some consecutive days.

    Raises:
        OwnFeatureError: the statement fails, or gives not exactly one row a clean transaction.
    """
    _open_inputs(connection, state, step, days, _NO_TRANSACTIONS)
    staged = []
    for day in days:
        path = folder / f"{step.name}-{day}.parquet"
        pq.write_table(_whole_day(connection, step, day), path, compression="zstd")
        staged.append(StagedFile(path, {"day": day}, state.key(step, day)))
    return {step.table: staged}


def columns_of_day(state: State, step: OwnStep, day: date) -> pa.Table:
    """``transaction_id`` and the file's columns of all transactions of a day, not stored.

    Raises:
        OwnFeatureError: see :func:`stage_own`.
    """
    with state.warehouse.connect() as connection:
        _open_inputs(connection, state, step, [day], _NO_TRANSACTIONS)
        return _whole_day(connection, step, day)


def columns_at(state: State, step: OwnStep, transactions: pa.Table) -> pa.Table:
    """The file's columns of transactions, each from what was known when it happened.

    Args:
        transactions: columns of ``clean_transactions``, null where one is missing; stored ones,
            which these take the place of, or new ones.

    Returns:
        ``transaction_id`` and ``<file>__<column>`` (float64), by ``happened_at``.

    Raises:
        OwnFeatureError: the statement fails, or gives not exactly one row for one of them.
    """
    given = _with_all_columns(transactions)
    moments: dict[datetime, set[str]] = {}
    for row in given.select(["transaction_id", "happened_at"]).to_pylist():
        moments.setdefault(row["happened_at"], set()).add(row["transaction_id"])
    found = [step.table.file_schema.empty_table()]
    with state.warehouse.connect() as connection:
        days = sorted({moment.date() for moment in moments})
        if days:
            _open_inputs(connection, state, step, days_between(days[0], days[-1]), given)
        for moment, names in sorted(moments.items()):
            rows = _compute(connection, step, moment.date(), moment)
            wanted = [name in names for name in rows["transaction_id"].to_pylist()]
            rows = rows.filter(pa.array(wanted, pa.bool_()))
            if sorted(rows["transaction_id"].to_pylist()) != sorted(names):
                raise OwnFeatureError(
                    f"{step.file.path}: over what was known at {moment} it gives not exactly one "
                    f"row for {min(names)}"
                )
            found.append(rows)
    return pa.concat_tables(found)


def _with_all_columns(transactions: pa.Table) -> pa.Table:
    held, schema = set(transactions.column_names), tables.CLEAN_TRANSACTIONS.schema
    columns = [
        transactions[f.name] if f.name in held else pa.nulls(len(transactions), f.type)
        for f in schema
    ]
    return pa.table(columns, names=schema.names).cast(schema)


def columns_of_new(
    state: State, transactions: pa.Table, features: Sequence[str]
) -> dict[str, pa.ChunkedArray]:
    """The features of one's own among a model's inputs, of transactions that no batch has seen.

    Args:
        transactions: see :func:`columns_at`.

    Returns:
        Feature -> values (float64) in the order of the transactions; {} if the model reads none.

    Raises:
        OwnFeatureError: see :func:`columns_at`; or there is no such feature any more.
    """
    found: dict[str, pa.ChunkedArray] = {}
    for table, names in own_columns(state, features).items():
        step = state.own[table.name]
        assert isinstance(step, OwnStep)
        rows = columns_at(state, step, transactions)
        at = pc.index_in(transactions["transaction_id"], rows["transaction_id"])
        found |= {name: rows[name].take(at) for name in names}
    return found


def _open_inputs(
    connection: "Connection", state: State, step: OwnStep, days: Sequence[date], given: pa.Table
) -> None:
    """Make the views that the statement reads; from then on the connection reads nothing else."""
    wide = days_between(days[0] - timedelta(days=step.look_back), days[-1])
    allowed: list[str] = []
    for name, table in INPUTS.items():
        files: list[DataFile] = []
        if name in step.file.reads or table is tables.CLEAN_TRANSACTIONS:
            snapshot = state.snapshot(table)
            files = snapshot.on(wide if name in step.file.reads else days)
            allowed += [f"{snapshot.root}/{file.path}" for file in files]
        if files:
            snapshot.register(connection, files, f"stored_{name}")
        else:
            connection.register(f"stored_{name}", table.schema.empty_table())
    connection.register("given_transactions", given)
    connection.execute(sql_text("own_inputs"))
    connection.execute("SET allowed_paths = $1", [allowed])
    connection.execute("SET python_enable_replacements = false")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _whole_day(connection: "Connection", step: OwnStep, day: date) -> pa.Table:
    end = datetime(day.year, day.month, day.day, 23, 59, 59, 999_999)
    found = _compute(connection, step, day, end)
    wrong = connection.execute(sql_text("own_gaps")).fetchall()
    if wrong:
        said = ", ".join(f"{times} {what} (e.g. {example})" for what, times, example in wrong)
        raise OwnFeatureError(
            f"{step.file.path}: on {day} there are {said}; it must give exactly one row a clean "
            "transaction of the day"
        )
    return found


def _compute(connection: "Connection", step: OwnStep, day: date, moment: datetime) -> pa.Table:
    """What the statement gives of a day, over what is known at a moment of it."""
    import duckdb

    variables: Mapping[str, Any] = {
        "day": day,
        "oldest_day": day - timedelta(days=step.look_back),
        "moment": moment,
    }
    for name, value in variables.items():
        connection.execute(f"SET VARIABLE {name} = $1", [value])
    select = step.file.select
    try:
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE own_rows AS "
            f"FROM (\n{select}\n) WHERE day = getvariable('day')",
            {"day": day} if "day" in duckdb.extract_statements(select)[0].named_parameters else {},
        )
        found = connection.sql(sql_text("own_columns")).to_arrow_table()
    except duckdb.Error as error:
        raise OwnFeatureError(f"{step.file.path}: on {day}: {str(error).splitlines()[0]}") from (
            error
        )
    return pa.table(found.columns, schema=step.table.file_schema)
