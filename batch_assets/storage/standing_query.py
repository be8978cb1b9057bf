"""A statement that DuckDB plans once and runs over one input after the other.

DuckDB plans a prepared statement again at each execution (2.0; an EXECUTE and a statement that was
parsed before are no faster), which for a long statement over a few rows is most of the work. So the
statement stands in a recursive query whose rounds never end: DuckDB plans the query once and runs
its recursive part once a round. A round begins when the engine asks a table for its rows, which
waits until there are some, and ends when the engine asks again. Should the engine read a table
before the first round, the plan is one that would not read it again: then each input is planned.
"""

import atexit
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Condition, Thread
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from batch_assets.errors import BatchAssetsError

if TYPE_CHECKING:
    import duckdb

_ROUNDS = """
WITH RECURSIVE rounds AS (
    SELECT {nothing}
    UNION ALL
    SELECT result.* FROM ({statement}) AS result WHERE (SELECT count(*) FROM rounds) > 0
)
SELECT give_out(rounds) FROM rounds
"""


class StandingQuery:
    """One SELECT over small tables in memory, for one caller at a time.

    Args:
        sql: the statement; as long as there are rows in its input it must yield some.
        parameters: values of its parameters, which never change.
        inputs: tables that it reads -> their columns.
        prepare: makes views of them on the connection, before the statement is planned.

    Example:
        >>> query = StandingQuery("SELECT a + $b AS c FROM t", {"b": 1}, {"t": schema})
        >>> query.run({"t": pa.table({"a": [1]}, schema)})["c"].to_pylist()
        [2]
    """

    def __init__(
        self,
        sql: str,
        parameters: Mapping[str, Any],
        inputs: Mapping[str, pa.Schema],
        prepare: "Callable[[duckdb.DuckDBPyConnection], object]" = lambda connection: None,
    ) -> None:
        self._sql, self._parameters, self._prepare = sql, dict(parameters), prepare
        self._inputs = {name: _Input(self, name, schema) for name, schema in inputs.items()}
        self._changed = Condition()
        self._tables: Mapping[str, pa.Table] | None = None  # of the round that runs
        self._given: list[pa.ChunkedArray] = []
        self._result: pa.Table | None = None
        self._error: BaseException | None = None
        self._planned = False
        self._reads_again = True
        self._closed = False
        self._thread: Thread | None = None

    def run(self, tables: Mapping[str, pa.Table]) -> pa.Table:
        """What the statement selects from these tables.

        Raises:
            duckdb.Error, OSError: the statement failed; the next call plans it again.
        """
        with self._changed:
            if self._closed:
                raise BatchAssetsError("a statement was run after it was closed")
            self._tables, self._result, self._error = tables, None, None
            if self._reads_again:
                self._run_round()
            if not self._reads_again:
                self._result = self._run_alone()
            if self._result is not None:
                return self._result
            assert self._error is not None
            raise self._error

    def _run_round(self) -> None:
        import duckdb  # noqa: F401  # before the next line: it must end after this query

        if self._thread is None:
            atexit.unregister(self.close)
            atexit.register(self.close)
            self._planned = False
            self._thread = Thread(target=self._work, name="standing query", daemon=True)
            self._thread.start()
        self._changed.notify_all()
        self._changed.wait_for(lambda: self._result is not None or self._error is not None)
        if self._error is not None:
            self._thread = None

    def _run_alone(self) -> pa.Table:
        with self._connected() as connection:
            return connection.sql(self._sql, params=self._parameters or None).to_arrow_table()

    def close(self) -> None:
        """End the query and its thread."""
        atexit.unregister(self.close)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        import duckdb

        error: BaseException = BatchAssetsError("the statement gave no row for its input")
        try:
            with self._connected() as connection:
                for _ in connection.sql(
                    self._query(connection), params=self._parameters or None
                ).to_arrow_reader():
                    pass
        except (duckdb.Error, OSError) as failed:  # Arrow says OSError of what DuckDB says
            error = failed
        with self._changed:
            self._error = error
            self._changed.notify_all()

    @contextmanager
    def _connected(self) -> "Iterator[duckdb.DuckDBPyConnection]":
        import duckdb

        with duckdb.connect(config={"threads": 1}) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            for name, table in self._inputs.items():
                connection.register(name, table)
            self._prepare(connection)
            yield connection

    def _query(self, connection: "duckdb.DuckDBPyConnection") -> str:
        import duckdb
        from duckdb.func import FunctionNullHandling, PythonUDFType

        relation = connection.sql(self._sql, params=self._parameters or None)
        columns = dict(zip(relation.columns, relation.types, strict=True))
        connection.create_function(
            "give_out",
            self._give_out,
            [duckdb.struct_type(columns)],
            "BIGINT",
            type=PythonUDFType.ARROW,
            null_handling=FunctionNullHandling.SPECIAL,
            side_effects=True,
        )
        nothing = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in columns.items())
        return _ROUNDS.format(nothing=nothing, statement=self._sql)

    def _give_out(self, rows: pa.ChunkedArray) -> pa.Array:
        """Rows of the round that runs, or the row without values that comes before the first."""
        with self._changed:
            self._given.append(rows)
        return pa.array([0] * len(rows), pa.int64())

    def rows_of(self, name: str) -> pa.Table:
        """What the engine reads from a table in this round; waits for one to begin."""
        with self._changed:
            if not self._reads_again:
                assert self._tables is not None
                return self._tables[name]
            if not self._planned and not self._given:
                self._reads_again = False
                raise BatchAssetsError(f"{name} is read before the first round")
            if self._given:
                given, self._given = self._given, []
                if self._planned:
                    chunks = [chunk for rows in given for chunk in rows.chunks]
                    self._result, self._tables = _as_table(chunks), None
                self._planned = True
                self._changed.notify_all()
            self._changed.wait_for(lambda: self._tables is not None or self._closed)
            if self._tables is None:
                raise BatchAssetsError("closed")
            return self._tables[name]


def _as_table(chunks: list[pa.StructArray]) -> pa.Table:
    return pa.Table.from_struct_array(pa.chunked_array(chunks))


class _Input:
    """A table to DuckDB, whose rows are other ones each time that they are read."""

    def __init__(self, query: StandingQuery, name: str, schema: pa.Schema) -> None:
        self._query, self._name, self._schema = query, name, schema

    def __arrow_c_schema__(self) -> object:
        return self._schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        rows = self._query.rows_of(self._name)
        return rows.__arrow_c_stream__(requested_schema)
