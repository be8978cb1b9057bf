"""Record batches cut anew, and their columns as one matrix."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from batch_assets.errors import BatchAssetsError


def recut(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """The same rows in the same order in batches of ``rows`` rows, the last one with the rest.

    How the input was cut leaves no trace. Holds at most ``rows`` rows and one batch of the input;
    a batch that fits as it is, is passed on without a copy.
    """
    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        start = 0
        while count + batch.num_rows - start >= rows:
            taken = rows - count
            yield _joined([*waiting, batch.slice(start, taken)])
            start += taken
            waiting, count = [], 0
        if start < batch.num_rows:
            waiting.append(batch.slice(start))
            count += batch.num_rows - start
    if count:
        yield _joined(waiting)


def _joined(parts: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    parts = [part for part in parts if part.num_rows]
    return parts[0] if len(parts) == 1 else pa.concat_batches(parts)


def feature_matrix(batch: pa.RecordBatch, features: Sequence[str]) -> np.ndarray:
    """Columns as float32 [rows, features], in the order named; a null is NaN.

    Integers, floats, decimals and booleans are numbers. Raises BatchAssetsError that names the
    columns which are missing or hold something else.
    """
    missing = [name for name in features if name not in batch.schema.names]
    if missing:
        raise BatchAssetsError(
            f"The rows to score lack the model's inputs {', '.join(missing)}. "
            "Build these features, or use a model that does without them."
        )
    matrix = np.empty((batch.num_rows, len(features)), dtype=np.float32)
    for position, name in enumerate(features):
        matrix[:, position] = _numbers(batch.column(name), name)
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
