"""Builds the days of a step that are not up to date, in chunks, each published in one commit.

Days already published stay when a later one fails, and a day that another
process built meanwhile is not built again.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch_assets.fraud import tables
from batch_assets.fraud.drift import register_totals
from batch_assets.fraud.feature_rows import register_scored_features
from batch_assets.fraud.features import days_read
from batch_assets.fraud.keys import (
    CLEAN,
    DRIFT,
    FEATURES,
    LABELS,
    QUALITY,
    RATES,
    REPORT,
    TOTALS,
    State,
    Step,
    days_between,
)
from batch_assets.fraud.sql import sql_text
from batch_assets.storage.tables import Table
from batch_assets.storage.warehouse import ConcurrentWrite, StagedFile, Warehouse

if TYPE_CHECKING:
    import duckdb

    Connection = duckdb.DuckDBPyConnection

Staged = dict[Table, list[StagedFile]]
Produce = Callable[["Connection", State, Sequence[date], Path], Staged]
ROWS_A_CHUNK = 2_000_000
DAYS_A_CHUNK = 200
ATTEMPTS = 20


@dataclass
class Built:
    """What happened to the days asked for."""

    made: list[date] = field(default_factory=list)
    unchanged: list[date] = field(default_factory=list)


@dataclass(frozen=True)
class Builder:
    """Brings days of a step up to date.

    Args:
        step: what to build.
        look: takes a new look at all tables.
        produce: stages the files of some consecutive days, each named by its day's key.
        progress: called with each day that is done.
        rows_a_chunk: about how many transactions go into one commit.
        holding: what surrounds the work on some days; it yields whether others may have done it
            meanwhile.
    """

    step: Step
    warehouse: Warehouse
    look: Callable[[], State]
    produce: Produce
    progress: Callable[[date], None] = lambda day: None
    rows_a_chunk: int = ROWS_A_CHUNK
    holding: Callable[[Sequence[date]], AbstractContextManager[bool]] = lambda days: nullcontext(
        False
    )

    def run(self, days: Sequence[date], built: Built | None = None) -> Built:
        """Build what is not up to date.

        Args:
            built: filled as days are published, so that it can be read after an error, too.
        """
        built = Built() if built is None else built
        todo, limit, attempts = sorted(days), DAYS_A_CHUNK, ATTEMPTS
        while todo:
            state = self._look()
            fresh = [d for d in todo if d not in set(state.stale(self.step, todo))]
            todo = [d for d in todo if d not in set(fresh)]
            self._tell(fresh, built.unchanged)
            chunk = self._chunk(state, todo, limit)
            if not chunk:
                break
            try:
                with self.holding(chunk) as changed:
                    if changed:
                        continue
                    self._publish(state, chunk)
            except ConcurrentWrite:
                attempts -= 1
                if not attempts:
                    raise
                continue
            except Exception:
                if len(chunk) == 1:
                    raise
                limit = 1  # save the days before the one that fails
                continue
            todo = [d for d in todo if d not in set(chunk)]
            self._tell(chunk, built.made)
        return built

    def _tell(self, days: Sequence[date], into: list[date]) -> None:
        into.extend(days)
        for day in days:
            self.progress(day)

    def _look(self) -> State:
        state = self.look()
        for table in self.step.tables:  # before anything that they are made from
            state.snapshot(table)
        return state

    def _chunk(self, state: State, todo: Sequence[date], limit: int) -> list[date]:
        chunk: list[date] = []
        rows = 0
        for day in todo[:limit]:
            if chunk and (day - chunk[-1]).days > 1:
                break
            rows += sum(f.rows for f in state.raw_transactions.get(day, []))
            if chunk and rows > self.rows_a_chunk:
                break
            chunk.append(day)
        return chunk

    def _publish(self, state: State, chunk: Sequence[date]) -> None:
        with self.warehouse.staging() as folder, self.warehouse.connect() as connection:
            staged = self.produce(connection, state, chunk, folder)
            for table in self.step.tables:
                self.warehouse.replace_days(state.snapshot(table), staged[table], chunk)


def _no_more(connection: "Connection") -> None:
    """Nothing."""


def produce_sql(step: Step, prepare: Callable[["Connection"], None] = _no_more) -> Produce:
    """Stages what the step's SQL statements select.

    Args:
        prepare: adds to the connection, after the statements that prepare views, what SQL cannot.
    """

    def produce(
        connection: "Connection", state: State, days: Sequence[date], folder: Path
    ) -> Staged:
        _INPUTS[step.name](connection, state, days[0], days[-1])
        for name in step.statements:
            connection.execute(sql_text(name))
        prepare(connection)
        return {t: _copy(connection, step, state, t, days, folder) for t in step.tables}

    return produce


def _copy(
    connection: "Connection",
    step: Step,
    state: State,
    table: Table,
    days: Sequence[date],
    folder: Path,
) -> list[StagedFile]:
    sql = sql_text(table.name)
    every: dict[str, Any] = {
        "first_day": days[0],
        "last_day": days[-1],
        "rate_max_age_days": state.settings.rate_max_age_days,
        "labels_known_until": state.labels_known_until,
    }
    parameters = {name: value for name, value in every.items() if f"${name}" in sql}
    target = folder / table.name
    if len(days) == 1:  # a plain file is written faster, and in less memory, than a partition
        target = target / f"day={days[0]}" / "rows.parquet"
        target.parent.mkdir(parents=True)
    columns = ", ".join(table.file_schema.names if len(days) == 1 else table.columns)
    options = "" if len(days) == 1 else ", PARTITION_BY (day)"
    connection.execute(
        f"COPY (SELECT {columns} FROM ({sql})) TO '{str(target).replace(chr(39), chr(39) * 2)}' "
        f"(FORMAT parquet, COMPRESSION zstd{options})",
        parameters,
    )
    staged = []
    for day in days:
        paths = sorted((folder / table.name / f"day={day}").glob("*.parquet"))
        key = state.key(step, day)
        if paths:
            staged += [StagedFile(path, {"day": day}, key) for path in paths]
        else:
            staged.append(state.warehouse.empty_file(folder, table, day, key))
    return staged


def register_rates(connection: "Connection", state: State, first: date, last: date) -> None:
    past = days_between(
        date.fromordinal(first.toordinal() - state.settings.rate_max_age_days), last
    )
    files = [f for d in past for f in state.raw_rates.get(d, [])]
    state.snapshot(tables.RAW_RATES).register(connection, files)
    _feed_rules(connection, state)


def _clean_inputs(connection: "Connection", state: State, first: date, last: date) -> None:
    days = days_between(first, last)
    ids, others = state.repeated_on(days)
    raw = state.snapshot(tables.RAW_TRANSACTIONS)
    files = [f for d in days for f in state.raw_transactions.get(d, [])]
    elsewhere = [f for d in sorted(others) for f in state.raw_transactions.get(d, [])]
    raw.register(connection, files, "raw_of_these_days")
    raw.register(connection, elsewhere, "raw_of_other_days")
    connection.execute(
        "CREATE TEMP TABLE repeated AS SELECT unnest($ids) AS transaction_id", {"ids": ids or [""]}
    )
    rates = state.snapshot(tables.EXCHANGE_RATES)
    rates.register(connection, rates.on([*days, *sorted(others)]))
    connection.execute("SET VARIABLE reporting_currency = $1", [state.settings.currency])
    _feed_rules(connection, state)


def _labels_inputs(connection: "Connection", state: State, first: date, last: date) -> None:
    days = days_between(first, last)
    files = [f for d in days for f in state.raw_labels.get(d, [])]
    state.snapshot(tables.RAW_LABELS).register(connection, files)
    _register_days(connection, state, days, tables.CLEAN_TRANSACTIONS)
    _feed_rules(connection, state)


def _totals_inputs(connection: "Connection", state: State, first: date, last: date) -> None:
    days = days_between(first, last)
    _register_days(connection, state, days, tables.CLEAN_TRANSACTIONS, tables.FRAUD_LABELS)


def _report_inputs(connection: "Connection", state: State, first: date, last: date) -> None:
    days = days_between(first, last)
    _register_days(connection, state, days, tables.FRAUD_PREDICTIONS)
    register_scored_features(connection, state, days)


def _quality_inputs(connection: "Connection", state: State, first: date, last: date) -> None:
    _register_days(connection, state, days_between(first, last), tables.FRAUD_PREDICTIONS)
    days = days_between(first - timedelta(days=QUALITY.look_back), last)
    _register_days(connection, state, days, tables.FRAUD_LABELS, tables.CLEAN_TRANSACTIONS)


def _drift_inputs(connection: "Connection", state: State, first: date, last: date) -> None:
    days = days_between(first, last)
    _register_days(connection, state, days, tables.FRAUD_PREDICTIONS)
    register_scored_features(connection, state, days)
    register_totals(connection, state, days)


def _register_days(
    connection: "Connection", state: State, days: Sequence[date], *wanted: Table
) -> None:
    for table in wanted:
        snapshot = state.snapshot(table)
        snapshot.register(connection, snapshot.on(days))


def _feed_rules(connection: "Connection", state: State) -> None:
    connection.execute(
        "CREATE TEMP TABLE feed_rules (feed VARCHAR, replaces BOOLEAN, label_delay_days INTEGER)"
    )
    rules = [
        (feed.name, feed.corrections == "replace", feed.label_delay_days)
        for feed in state.feeds.by_name.values()
    ]
    if rules:
        connection.executemany("INSERT INTO feed_rules VALUES (?, ?, ?)", rules)


def _features_inputs(connection: "Connection", state: State, first: date, last: date) -> None:
    ranges = days_read(first, last)
    for table in (
        tables.CLEAN_TRANSACTIONS,
        tables.CUSTOMER_DAYS,
        tables.TERMINAL_DAYS,
        tables.TERMINAL_FRAUDS,
    ):
        days = [day for one in ranges[table.name] for day in days_between(*one)]
        _register_days(connection, state, days, table)


_INPUTS = {
    RATES.name: register_rates,
    CLEAN.name: _clean_inputs,
    LABELS.name: _labels_inputs,
    TOTALS.name: _totals_inputs,
    FEATURES.name: _features_inputs,
    REPORT.name: _report_inputs,
    QUALITY.name: _quality_inputs,
    DRIFT.name: _drift_inputs,
}
