"""A stream of sequences cut into windows: as much as is reordered at once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_assets.errors import BatchAssetsError

Bytes = Callable[[pa.RecordBatch], np.ndarray]


@dataclass(frozen=True)
class Encoded:
    """Sequences that the host must decode before they can be computed.

    Args:
        decode: a value of the column -> float32 [length, features]; threads call it, and run
            beside each other as far as it lets go of Python's lock (zlib, Pillow and numpy do).
        length: name of the column with the number of steps, an integer, known beforehand.
        cost: name of a column with what decoding costs, a number of any unit; None takes the
            bytes of the value.
    """

    decode: Callable[[object], np.ndarray]
    length: str
    cost: str | None = None


@dataclass
class Window:
    """Sequences that are reordered together, and room for their results in the order they came.

    Attributes:
        batch: the rows as they came.
        lengths: int64 [n], steps.
        costs: float64 [n], what decoding costs, or None where there is nothing to decode.
        left: sequences that are not computed yet.
    """

    batch: pa.RecordBatch
    lengths: np.ndarray
    costs: np.ndarray | None
    sequence: Callable[[int], np.ndarray]
    scores: np.ndarray
    vectors: np.ndarray
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = len(self.lengths)


def cut(batches: Iterable[pa.RecordBatch], size: Bytes, limit: int) -> Iterator[pa.RecordBatch]:
    """The same rows in record batches of at most ``limit`` bytes, or one row where it has more.

    ``size`` gives the bytes of each row, as a record batch of the input is asked for.
    """
    waiting: list[pa.RecordBatch] = []
    held = 0
    for batch in batches:
        start = 0
        ends = np.cumsum(size(batch))
        while start < batch.num_rows:
            before = int(ends[start - 1]) if start else 0
            stop = int(np.searchsorted(ends, before + limit - held, side="right"))
            if stop == start and not waiting:
                stop += 1
            if stop > start:
                waiting.append(batch.slice(start, stop - start))
                held += int(ends[stop - 1]) - before
            if stop < batch.num_rows:
                yield pa.concat_batches(waiting)
                waiting, held = [], 0
            start = stop
    if waiting:
        yield pa.concat_batches(waiting)


def sequence_array(values: np.ndarray, offsets: np.ndarray) -> pa.ListArray:
    """Sequences as a column: steps float32 [steps, features], and where each begins, int [n + 1].

    The last offset is where the last one ends.
    """
    steps = pa.FixedSizeListArray.from_arrays(
        pa.array(np.ascontiguousarray(values, dtype=np.float32).reshape(-1)), values.shape[1]
    )
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), steps)


@dataclass(frozen=True)
class Windows:
    """How windows are made of record batches.

    Args:
        column: the sequences: lists of steps of ``features`` numbers, or what ``encoded`` decodes.
        passthrough: columns that are kept beside it.
        embedding_size: the length of a vector, for the room that results take.
        limit: bytes of a window, of the input and of the results.
    """

    column: str
    features: int
    encoded: Encoded | None
    passthrough: Sequence[str]
    embedding_size: int
    limit: int

    def of(self, batches: Iterable[pa.RecordBatch]) -> Iterator[Window]:
        """Raises BatchAssetsError when a column is missing or holds something else."""
        for batch in cut(map(self._checked, batches), self._bytes, self.limit):
            yield self._window(batch)

    def _checked(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The columns that are needed."""
        names = [*self.passthrough, self.column]
        if self.encoded:
            names += [name for name in (self.encoded.length, self.encoded.cost) if name]
        missing = [name for name in names if name not in batch.schema.names]
        if missing:
            raise BatchAssetsError(
                f"The rows to score lack the columns {', '.join(missing)}. Add or rename them."
            )
        batch = batch.select(list(dict.fromkeys(names)))
        if self.encoded is None:
            _check_lists(batch.column(self.column), self.column, self.features)
        return batch

    def _bytes(self, batch: pa.RecordBatch) -> np.ndarray:
        """Bytes of each row: its sequence, its results, and an even share of the other columns."""
        others = sum(batch.column(n).nbytes for n in self.passthrough if n != self.column)
        each = 4 * (1 + self.embedding_size) + others // max(1, batch.num_rows)
        unit = 1 if self.encoded else 4 * self.features
        return _lengths(batch.column(self.column)) * unit + each

    def _window(self, batch: pa.RecordBatch) -> Window:
        column, encoded, rows = batch.column(self.column), self.encoded, batch.num_rows
        room = np.empty(rows, np.float32), np.empty((rows, self.embedding_size), np.float32)
        if encoded is None:
            lengths = _lengths(column)
            steps, ends = _steps(column, self.features), np.cumsum(lengths)
            return Window(
                batch, lengths, None, lambda i: steps[ends[i] - lengths[i] : ends[i]], *room
            )
        lengths = _whole_numbers(batch.column(encoded.length), encoded.length)
        lengths[column.is_null().to_numpy(zero_copy_only=False)] = 0
        costs = _lengths(column)
        if encoded.cost is not None:
            costs = batch.column(encoded.cost).to_numpy(zero_copy_only=False)
        costs = np.nan_to_num(costs.astype(np.float64), posinf=0.0).clip(min=0.0)
        return Window(batch, lengths, costs, lambda i: encoded.decode(column[i].as_py()), *room)


def _lengths(column: pa.Array) -> np.ndarray:
    """Elements of each list, or bytes of each value, int64 [n]; a null has none."""
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        counts = pc.list_value_length(column)
    elif pa.types.is_nested(kind) or pa.types.is_primitive(kind):
        return np.full(len(column), column.nbytes // max(1, len(column)), dtype=np.int64)
    else:
        counts = pc.binary_length(column)
    return pc.fill_null(counts, 0).cast(pa.int64()).to_numpy(zero_copy_only=False)


def _check_lists(column: pa.Array, name: str, features: int) -> None:
    """Raise BatchAssetsError unless it is a column of lists of steps of ``features`` numbers."""
    kind = column.type
    step = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else None
    if step is None or not pa.types.is_fixed_size_list(step) or step.list_size != features:
        raise BatchAssetsError(
            f"Column {name!r} is of type {kind}, not a list of fixed_size_list<float>[{features}]. "
            "Name another, or say how its values are decoded."
        )
    number = step.value_type
    if not (pa.types.is_floating(number) or pa.types.is_integer(number)):
        raise BatchAssetsError(f"Steps in column {name!r} are of type {number}, not numbers.")


def _steps(column: pa.Array, features: int) -> np.ndarray:
    """All steps of a column of lists, one after another: float32 [steps, features].

    A null number, or each number of a null step, is NaN.
    """
    steps = column.flatten()
    numbers = steps.values.slice(steps.offset * features, len(steps) * features)
    values = numbers.to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    values = values.reshape(-1, features)
    if steps.null_count:
        values = values.copy()
        values[steps.is_null().to_numpy(zero_copy_only=False)] = np.nan
    return values


def _whole_numbers(column: pa.Array, name: str) -> np.ndarray:
    """Lengths, int64 [n]; a null is 0."""
    if not pa.types.is_integer(column.type):
        raise BatchAssetsError(f"Column {name!r} is of type {column.type}, not whole numbers.")
    lengths = column.fill_null(0).cast(pa.int64()).to_numpy(zero_copy_only=False).copy()
    if len(lengths) and lengths.min() < 0:
        raise BatchAssetsError(f"Column {name!r} has a negative length. Correct the rows.")
    return lengths
