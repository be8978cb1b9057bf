"""What comes in is checked while it streams by: schema, day, keys, vectors."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batch_assets.storage.vectors.errors import VectorStoreError
from batch_assets.storage.vectors.table import VectorTable

Options = dict[str, str] | None
NO_HASHES = np.empty(0, np.int64)


class IncomingDay:
    """Record batches of one day on their way into a table; holds 8 bytes a row, no rows.

    After the stream is used up, `rows` is their number and `refuse_repeated` knows which keys
    came more than once.
    """

    def __init__(self, spec: VectorTable, day: date, batches: Iterable[pa.RecordBatch]) -> None:
        self.rows = 0
        self.failure: BaseException | None = None
        self._spec, self._day, self._batches = spec, day, batches
        self._hashes: list[npt.NDArray[np.int64]] = []

    def reader(self) -> pa.RecordBatchReader:
        """The checked batches as a stream of the table's schema."""
        return pa.RecordBatchReader.from_batches(self._spec.schema, self._checked())

    def refuse_repeated(self, files: Sequence[str], storage_options: Options) -> None:
        """Raise if a key came twice; only if hashes did are the files just written read again."""
        hashes = np.concatenate(self._hashes or [NO_HASHES])
        self._hashes = []
        _refuse(self._spec, self._day, files, storage_options, _repeated(hashes))

    def _checked(self) -> Iterator[pa.RecordBatch]:
        """Yield each batch in the table's form; keep what went wrong, which Lance hides."""
        try:
            for batch in self._batches:
                if batch.num_rows:
                    checked = conform(self._spec, self._day, batch)
                    self._hashes.append(key_hashes(checked[self._spec.key]))
                    self.rows += checked.num_rows
                    yield checked
        except BaseException as error:
            self.failure = error
            raise


def refuse_repeated(
    spec: VectorTable, day: date, files: Sequence[str], storage_options: Options
) -> None:
    """Raise if a key stands twice in these files together; 8 bytes a row in memory."""
    hashes = [key_hashes(batch[spec.key]) for batch in _keys(spec, files, storage_options)]
    _refuse(spec, day, files, storage_options, _repeated(np.concatenate(hashes or [NO_HASHES])))


def _refuse(
    spec: VectorTable,
    day: date,
    files: Sequence[str],
    storage_options: Options,
    repeated: npt.NDArray[np.int64],
) -> None:
    """Raise if keys with these hashes, which come more than once, are the same keys."""
    suspects = Counter[Any]()
    for batch in _keys(spec, files if len(repeated) else (), storage_options):
        chosen = np.isin(key_hashes(batch[spec.key]), repeated)
        suspects.update(batch[spec.key].filter(pa.array(chosen)).to_pylist())
    twice = sorted(key for key, times in suspects.items() if times > 1)
    if twice:
        raise VectorStoreError(
            f"Vector table {spec.name}, day {day}: {len(twice)} values of {spec.key} "
            f"came more than once, {', '.join(map(repr, twice[:5]))} among them. Nothing was "
            f"written; give each key once."
        )


def _keys(
    spec: VectorTable, files: Sequence[str], storage_options: Options
) -> Iterator[pa.RecordBatch]:
    """The key column of files."""
    from lance.file import LanceFileReader

    for path in files:
        file = LanceFileReader(path, storage_options=storage_options, columns=[spec.key])
        yield from file.read_all(batch_size=65_536).to_batches()


def _repeated(hashes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Hashes that come more than once: of one key, or of two that share theirs."""
    hashes.sort()
    return np.unique(hashes[1:][hashes[1:] == hashes[:-1]])


def key_hashes(keys: pa.Array) -> npt.NDArray[np.int64]:
    """A 64-bit hash (int64) of each key; equal keys have equal hashes in one process."""
    if pa.types.is_integer(keys.type):
        return np.asarray(keys.to_numpy(zero_copy_only=False)).astype(np.int64)
    return np.fromiter(map(hash, keys.to_pylist()), np.int64, len(keys))


def conform(spec: VectorTable, day: date, batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with the table's columns, in its order and types, all of it of this day.

    Raises:
        VectorStoreError: a column missing or of another type, a null where none may be, a
            row of another day, or a vector with a number that is not finite.
    """
    missing = [name for name in spec.schema.names if name not in batch.schema.names]
    if missing:
        raise VectorStoreError(
            f"Vector table {spec.name}, day {day}: the batch lacks {', '.join(missing)}. "
            f"It has {', '.join(batch.schema.names)}."
        )
    columns = [_column(spec, day, field, batch[field.name]) for field in spec.schema]
    conformed = pa.RecordBatch.from_arrays(columns, schema=spec.schema)
    wrong = pc.not_equal(conformed[spec.day], pa.scalar(day, pa.date32()))
    if pc.any(wrong).as_py():
        other = conformed[spec.day].filter(wrong)[0].as_py()
        raise VectorStoreError(
            f"Vector table {spec.name}: a row of {other} came with the day {day}. "
            f"Write each day's rows by a call of their own."
        )
    numbers = conformed[spec.vector].flatten().to_numpy(zero_copy_only=False)
    if not np.isfinite(numbers).all():
        at = int(np.flatnonzero(~np.isfinite(numbers))[0]) // spec.dimensions
        raise VectorStoreError(
            f"Vector table {spec.name}, day {day}: the vector of "
            f"{conformed[spec.key][at].as_py()!r} holds NaN or infinity, which no search "
            f"can rank. Check the model's input for that row."
        )
    return conformed


def _column(spec: VectorTable, day: date, field: pa.Field, column: pa.Array) -> pa.Array:
    """One column in the table's type."""
    if column.null_count and not field.nullable:
        raise VectorStoreError(
            f"Vector table {spec.name}, day {day}: column {field.name!r} has "
            f"{column.null_count} nulls. It must have a value in every row."
        )
    if column.type == field.type:
        return column
    try:
        return column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise VectorStoreError(
            f"Vector table {spec.name}, day {day}: column {field.name!r} is {column.type} and "
            f"does not fit {field.type} ({error}). Cast it before writing."
        ) from error
