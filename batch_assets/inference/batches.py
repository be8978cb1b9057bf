"""Record batches cut anew, and their columns as one matrix."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from batch_assets.errors import BatchAssetsError

# Rows that are brought from columns into rows at once: they stay in a core's cache, so that what
# is written a value here and a value there takes a quarter of the time.
TRANSPOSED_ROWS = 1024


def recut(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[list[pa.RecordBatch]]:
    """The same rows in the same order in batches of ``rows`` rows, the last one with the rest.

    How the input was cut leaves no trace but in the parts, none empty, as which each batch comes:
    nothing is copied. Holds at most ``rows`` rows and one batch of the input.
    """
    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        start = 0
        while count + batch.num_rows - start >= rows:
            taken = rows - count
            yield [*waiting, batch.slice(start, taken)]
            start += taken
            waiting, count = [], 0
        if start < batch.num_rows:
            waiting.append(batch.slice(start))
            count += batch.num_rows - start
    if count:
        yield waiting


def column_of(parts: Sequence[pa.RecordBatch], name: str) -> pa.Array:
    """A column of a batch that is in parts."""
    columns = [part.column(name) for part in parts]
    return columns[0] if len(columns) == 1 else pa.concat_arrays(columns)


def feature_matrix(
    parts: pa.RecordBatch | Sequence[pa.RecordBatch],
    features: Sequence[str],
    column: str | None = None,
) -> np.ndarray:
    """Columns of a batch, or of its parts, as float32 [rows, features], in the order named.

    A null is NaN; integers, floats, decimals and booleans are numbers. With ``column``, that one
    has all of the features, as a fixed-size list of float32 without nulls, and the memory of a
    single part is used as it is. Raises BatchAssetsError that names the columns which are missing
    or hold something else.
    """
    parts = [parts] if isinstance(parts, pa.RecordBatch) else parts
    names = features if column is None else [column]
    missing = [name for name in names if name not in parts[0].schema.names]
    if missing:
        raise BatchAssetsError(
            f"The rows to score lack the model's inputs {', '.join(missing)}. "
            "Build these features, or use a model that does without them."
        )
    if column is not None:
        return _lists(column_of(parts, column), len(features), column)
    matrix = np.empty((sum(part.num_rows for part in parts), len(features)), dtype=np.float32)
    start = 0
    for part in parts:
        columns = [_numbers(part.column(name), name) for name in features]
        _transpose(columns, matrix[start : start + part.num_rows])
        start += part.num_rows
    return matrix


def _transpose(columns: Sequence[np.ndarray], matrix: np.ndarray) -> None:
    """Put columns into float32 [rows, columns]."""
    for start in range(0, len(matrix), TRANSPOSED_ROWS):
        rows = slice(start, start + TRANSPOSED_ROWS)
        stacked = np.stack([values[rows] for values in columns], dtype=np.float32, casting="unsafe")
        matrix[rows] = stacked.T


def _lists(column: pa.Array, size: int, name: str) -> np.ndarray:
    """A column of fixed-size lists as the matrix that it is in memory."""
    if column.type != pa.list_(pa.float32(), size):
        raise BatchAssetsError(
            f"The model's inputs {name!r} are of type {column.type}, not a fixed-size list of "
            f"{size} float32. Cast the column, or give each feature a column of its own."
        )
    values = column.flatten()
    if column.null_count or values.null_count:
        raise BatchAssetsError(
            f"The model's inputs {name!r} have nulls. Put NaN where a number is missing."
        )
    matrix: np.ndarray = values.to_numpy(zero_copy_only=True).reshape(-1, size)
    return matrix


def _numbers(column: pa.Array, name: str) -> np.ndarray:
    kind = column.type
    if pa.types.is_boolean(kind):
        column = column.cast(pa.uint8())
    elif pa.types.is_decimal(kind):
        column = column.cast(pa.float64())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise BatchAssetsError(
            f"The model's input {name!r} is of type {kind}, not a number. "
            "Correct the feature, or use a model that does without it."
        )
    # With nulls pyarrow gives float64 and NaN, without them the column's own memory.
    return column.to_numpy(zero_copy_only=False)
