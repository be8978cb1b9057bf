"""A statement planned once gives what a new one would, whatever its input was before."""

import subprocess
import sys
from datetime import date

import duckdb
import pyarrow as pa
import pytest

from batch_assets.errors import BatchAssetsError
from batch_assets.storage.standing_query import StandingQuery

SCHEMA = pa.schema([("who", pa.string()), ("day", pa.date32()), ("paid", pa.int64())])
SQL = """
WITH seen AS (SELECT * FROM t WHERE day <= $last), totals AS (
    SELECT who, sum(paid) OVER (PARTITION BY who ORDER BY day, paid) AS so_far, n
    FROM seen LEFT JOIN names USING (who)
)
SELECT totals.*, (SELECT count(*) FROM seen) AS rows FROM totals ORDER BY who, so_far
"""
NAMES = pa.schema([("who", pa.string()), ("n", pa.int32())])
LAST = date(2026, 1, 9)


def _rows(*rows: tuple[str, int, int]) -> dict[str, pa.Table]:
    columns = list(zip(*rows, strict=True))
    days = [date(2026, 1, day) for day in columns[1]]
    names = sorted(set(columns[0]))[:1]
    return {
        "t": pa.table([columns[0], pa.array(days), columns[2]], SCHEMA),
        "names": pa.table([names, pa.array([len(n) for n in names], pa.int32())], NAMES),
    }


INPUTS = [
    _rows(("a", 1, 5)),
    _rows(("a", 1, 5), ("b", 2, 7), ("a", 3, -5), ("c", 12, 1)),
    _rows(*((f"w{n % 7}", 1 + n % 9, n) for n in range(5_000))),
    _rows(("b", 9, 1)),
]


@pytest.mark.parametrize("setting", ["", "SET disabled_optimizers = 'cte_inlining'"])
def test_every_input_gives_what_the_plain_statement_gives(setting: str) -> None:
    """With that setting the engine would read a table only once."""
    query = StandingQuery(
        SQL, {"last": LAST}, {"t": SCHEMA, "names": NAMES}, lambda c: c.execute(setting)
    )
    for tables in [*INPUTS, *reversed(INPUTS)]:
        with duckdb.connect() as connection:
            for name, table in tables.items():
                connection.register(name, table)
            plain = connection.sql(SQL, params={"last": LAST}).to_arrow_table()
        assert query.run(tables).equals(plain.cast(plain.schema))
    query.close()


def test_a_failure_says_so_and_the_next_input_is_computed() -> None:
    with_error = "SELECT who, (paid * 100)::TINYINT AS small FROM t"
    query = StandingQuery(with_error, {}, {"t": SCHEMA})
    with pytest.raises((duckdb.Error, OSError), match="out of range"):
        query.run(_rows(("a", 1, 500)))
    assert query.run(_rows(("a", 1, 1)))["small"].to_pylist() == [100]
    with pytest.raises(BatchAssetsError, match="no row"):
        query.run({"t": SCHEMA.empty_table()})
    assert query.run(_rows(("a", 1, -1)))["small"].to_pylist() == [-100]
    query.close()
    with pytest.raises(BatchAssetsError, match="closed"):
        query.run(_rows(("a", 1, 1)))


def test_a_statement_that_cannot_be_planned_says_why() -> None:
    with pytest.raises(duckdb.Error, match="nothing"):
        StandingQuery("SELECT nothing FROM t", {}, {"t": SCHEMA}).run(_rows(("a", 1, 1)))


def test_a_process_ends_though_a_query_waits() -> None:
    program = (
        "import pyarrow as pa\n"
        "from batch_assets.storage.standing_query import StandingQuery\n"
        "schema = pa.schema([('a', pa.int64())])\n"
        "query = StandingQuery('SELECT a + 1 AS b FROM t', {}, {'t': schema})\n"
        "print(query.run({'t': pa.table({'a': [1]}, schema)})['b'].to_pylist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[2]", "")
