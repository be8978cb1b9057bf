"""Predictions of days that are not in memory, read from their files and from the vector store.

The vector store finds a key, or all rows of an entity, by an index in about 2 ms, but lacks some
columns. If all rows of a day have the same values there (one scoring, one time), those are read
once a day and the store does the rest; otherwise, or without vectors, the Parquet files are read:
the key's column, then the row groups that it points to.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batch_assets.errors import BatchAssetsError
from batch_assets.serving.blocks import DayBlock, Row, Value
from batch_assets.serving.hashes import Hashes, hashes_of
from batch_assets.serving.workload import Workload
from batch_assets.storage.tables import DAY
from batch_assets.storage.vectors.filters import Equals, Filter, OneOf, Range, filter_sql
from batch_assets.storage.warehouse import DataFile
from batch_assets.storage.warehouse import Snapshot as Predictions

if TYPE_CHECKING:
    from batch_assets.storage.vectors.search import Snapshot as Vectors

DAYS_REMEMBERED = 4_096


class ViewGone(BatchAssetsError):
    """Files of an old view were removed; ask again with the newest one."""


class StoreUnreadable(BatchAssetsError):
    """A file of the store is damaged or cannot be reached."""


class StoredDays:
    """Reads rows of days from the store; blocking, for threads.

    Args:
        workload: what is served.
    """

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        table, spec = workload.predictions, workload.vectors
        self._lacking = [n for n in table.columns if n not in spec.schema.names and n != DAY]
        self._shared = [n for n in table.columns if n in spec.schema.names and n != DAY]
        self._same = lru_cache(DAYS_REMEMBERED)(self._read_same)

    def block(self, predictions: Predictions, day: date) -> DayBlock:
        """A day, read into memory."""
        files = predictions.by_day[day]
        columns = [name for name in predictions.table.columns if name != DAY]
        rows = pa.concat_tables([self._read(predictions, file, columns) for file in files])
        key, entities = self._workload.key, self._workload.entities.values()
        return DayBlock(predictions.table, day, files[0].key, rows, key, entities)

    def hashes(self, predictions: Predictions, day: date) -> Hashes:
        """The hashes of a day's keys."""
        key = self._workload.key
        tables = [self._read(predictions, file, [key]) for file in predictions.by_day[day]]
        return hashes_of(pa.concat_tables(tables)[key].combine_chunks())

    def find(
        self,
        predictions: Predictions,
        vectors: "Vectors | None",
        day: date,
        keys: Sequence[Value],
    ) -> list[Row]:
        """The rows of a day that have one of these keys."""
        column = self._workload.key
        if self._in_vectors(predictions, vectors, [day]):
            assert vectors is not None
            where = OneOf(column, keys) if len(keys) > 1 else Equals(column, keys[0])
            return self._from_vectors(predictions, vectors, [day], [where])
        return list(self._from_files(predictions, day, column, keys))

    def of_entity(
        self,
        predictions: Predictions,
        vectors: "Vectors | None",
        days: Sequence[date],
        entity: str,
        value: Value,
        until: Any,
    ) -> Iterator[list[Row]]:
        """All rows of some days with this value, in portions, those of the newest days first.

        Args:
            days: descending.
            until: rows that are later than this moment may be left out; None for all.
        """
        quick = [day for day in days if self._in_vectors(predictions, vectors, [day])]
        found: dict[date, list[Row]] = {}
        if quick:
            assert vectors is not None
            filters: list[Filter] = [Equals(entity, value)]
            if until is not None:
                filters.append(Range(self._workload.time, None, until))
            for row in self._from_vectors(predictions, vectors, quick, filters):
                found.setdefault(row[DAY], []).append(row)
        known = set(quick)
        for day in days:
            if day in known:
                yield found.get(day, [])
            else:
                yield list(self._from_files(predictions, day, entity, [value]))

    def _in_vectors(
        self, predictions: Predictions, vectors: "Vectors | None", days: Sequence[date]
    ) -> bool:
        """Whether the vector store has these days whole, of the same scoring, with all columns."""
        return vectors is not None and all(
            vectors.holds(day, predictions.keys[day]) and self._same_values(predictions, day)
            for day in days
        )

    def _same_values(self, predictions: Predictions, day: date) -> Row | None:
        paths = tuple(f"{predictions.root}/{file.path}" for file in predictions.by_day[day])
        return self._same(paths)

    def _read_same(self, paths: tuple[str, ...]) -> Row | None:
        """What all rows have in the columns that vectors lack; None where rows differ."""
        seen: set[tuple[Any, ...]] = set()
        for path in paths:
            rows = _reading(path, lambda file: file.read(self._lacking))
            for columns in rows.group_by(self._lacking).aggregate([]).to_pylist():
                seen.add(tuple(columns[name] for name in self._lacking))
        return dict(zip(self._lacking, *seen, strict=True)) if len(seen) == 1 else None

    def _from_vectors(
        self,
        predictions: Predictions,
        vectors: "Vectors",
        days: Sequence[date],
        filters: Iterable[Filter],
    ) -> list[Row]:
        spec = self._workload.vectors
        wanted = [*self._shared, spec.day]
        try:
            rows = vectors.rows_of(days, wanted, filter_sql(spec, filters)).to_pylist()
        except (OSError, ValueError, RuntimeError) as error:
            raise _unreadable(f"vector table {spec.name}", error) from error
        names = list(predictions.table.columns)
        return [self._complete(predictions, row, names) for row in rows]

    def _complete(self, predictions: Predictions, row: Row, names: Sequence[str]) -> Row:
        day = row.pop(self._workload.vectors.day)
        whole = {**row, **(self._same_values(predictions, day) or {}), DAY: day}
        return {name: whole[name] for name in names}

    def _from_files(
        self, predictions: Predictions, day: date, column: str, values: Sequence[Value]
    ) -> Iterator[Row]:
        wanted = pa.array(values, predictions.table.columns[column][0])
        names = [name for name in predictions.table.columns if name != DAY]
        for file in predictions.by_day[day]:
            rows = _reading(
                f"{predictions.root}/{file.path}", lambda f: _rows_with(f, column, wanted, names)
            )
            for row in rows:
                whole: Mapping[str, Any] = {**row, DAY: day}
                yield {name: whole[name] for name in predictions.table.columns}

    def _read(self, predictions: Predictions, file: DataFile, columns: list[str]) -> pa.Table:
        return _reading(f"{predictions.root}/{file.path}", lambda f: f.read(columns))


def _rows_with(file: pq.ParquetFile, column: str, wanted: pa.Array, names: list[str]) -> list[Row]:
    """Rows whose column has one of the values: first that column, then the groups it is in."""
    found: list[Row] = []
    for group in range(file.num_row_groups):
        chunk = file.read_row_group(group, [column])[column]
        at = pc.indices_nonzero(pc.is_in(chunk, wanted))
        if len(at):
            found += file.read_row_group(group, names).take(at).to_pylist()
    return found


def _reading(path: str, read: Any) -> Any:
    """What ``read`` makes of a Parquet file.

    Raises:
        ViewGone: the file is not there any more.
        StoreUnreadable: it cannot be read.
    """
    try:
        # Without pre_buffer, which reads ahead what nobody asked for.
        with pq.ParquetFile(path, pre_buffer=False) as file:
            return read(file)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def _unreadable(what: str, error: Exception) -> BatchAssetsError:
    if isinstance(error, FileNotFoundError) or "not found" in str(error).lower():
        return ViewGone(f"{what}: files were removed while they were read ({error})")
    return StoreUnreadable(
        f"{what} cannot be read: {error}; if the file is damaged, delete it and the day is built "
        "again by `batch-assets run`"
    )
