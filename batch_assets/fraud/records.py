"""Record batches that every reader gives, whatever the format of the file."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

FIELDS = ("key", "customer", "terminal", "amount", "currency", "time", "label", "rate")
SCHEMA = pa.schema(
    [pa.field("row_number", pa.int64())]
    + [pa.field(name, pa.string()) for name in (*FIELDS, "other", "line", "problem")]
)


def good_records(
    numbers: Sequence[int] | np.ndarray[Any, Any],
    columns: Mapping[str, pa.Array],
    other: pa.Array,
    problem: str | None = None,
) -> pa.RecordBatch:
    """Records that were taken apart.

    Args:
        numbers: row numbers.
        columns: canonical name -> text; absent ones become null.
        other: what the feed does not map, as a JSON object or null.
        problem: what is wrong with all of them, if anything.
    """
    return _fill({"row_number": pa.array(numbers, pa.int64()), "other": other, **columns}, problem)


def bad_records(
    numbers: Sequence[int], lines: Sequence[str | None], problem: str
) -> pa.RecordBatch:
    """Records that could not be taken apart, as the text they were; all for one reason."""
    columns = {"row_number": pa.array(numbers, pa.int64()), "line": pa.array(lines, pa.string())}
    return _fill(columns, problem)


def first_line(error: BaseException) -> str:
    """An error in one line."""
    return (str(error) or type(error).__name__).splitlines()[0]


def _fill(columns: dict[str, pa.Array], problem: str | None) -> pa.RecordBatch:
    rows = len(columns["row_number"])
    problems = pa.array([problem] * rows, pa.string()) if problem else pa.nulls(rows, pa.string())
    every = {name: pa.nulls(rows, pa.string()) for name in SCHEMA.names} | columns
    return pa.RecordBatch.from_arrays(
        [every[n] if n != "problem" else problems for n in SCHEMA.names], schema=SCHEMA
    )
