"""Predictions of days that are not in memory, read from their files and from the vector store.

The vector store finds a key, or all rows of an entity, by an index in about 2 ms, but lacks some
columns. If all rows of a day have the same values there (one scoring, one time), those are read
once a day and the store does the rest; otherwise, or without vectors, the Parquet files are read:
the key's column, then the row groups that it points to.
"""

import logging
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
from batch_assets.storage.vectors.filters import Equals, Filter, OneOf, filter_sql
from batch_assets.storage.warehouse import DataFile
from batch_assets.storage.warehouse import Snapshot as Predictions

if TYPE_CHECKING:
    from batch_assets.storage.vectors.search import Snapshot as Vectors

logger = logging.getLogger(__name__)
DAYS_REMEMBERED = 4_096
FIRST_DAYS, MORE_DAYS = 7, 4


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
        days: Mapping[date, Sequence[Value]],
    ) -> tuple[list[Row], dict[date, BatchAssetsError]]:
        """The rows of some days that have one of the keys that each day may have.

        Returns:
            The rows, and the days that could not be read, with the reason.
        """
        if not days:
            return [], {}
        column = self._workload.key
        keys = list({key: None for of_day in days.values() for key in of_day})
        where = OneOf(column, keys) if len(keys) > 1 else Equals(column, *keys)
        held = self._from_vectors(predictions, vectors, days, [where])
        rows: list[Row] = []
        failed: dict[date, BatchAssetsError] = {}
        for day, of_day in days.items():
            try:
                rows += self._of_day(predictions, day, column, of_day, held)
            except BatchAssetsError as error:
                failed[day] = error
        return rows, failed

    def of_entity(
        self,
        predictions: Predictions,
        vectors: "Vectors | None",
        days: Sequence[date],
        entity: str,
        value: Value,
    ) -> Iterator[list[Row]]:
        """All rows of an entity, one day after the other, read when they are asked for.

        The vector store is asked for a week, then for ever more days at once.
        """
        at, many = 0, FIRST_DAYS
        while at < len(days):
            portion = days[at : at + many]
            held = self._from_vectors(predictions, vectors, portion, [Equals(entity, value)])
            for day in portion:
                yield self._of_day(predictions, day, entity, [value], held)
            at, many = at + many, many * MORE_DAYS

    def _of_day(
        self,
        predictions: Predictions,
        day: date,
        column: str,
        values: Sequence[Value],
        held: Mapping[date, list[Row]],
    ) -> list[Row]:
        """Rows of a day, from what the vector store gave, else from the files."""
        if day in held:
            rows = held[day]
            same = self._same_values(predictions, day) if rows else {}
            if same is not None:
                whole = [{**row, **same, DAY: day} for row in rows]
                return [{name: row[name] for name in predictions.table.columns} for row in whole]
        return list(self._from_files(predictions, day, column, values))

    def _same_values(self, predictions: Predictions, day: date) -> Row | None:
        paths = tuple(f"{predictions.root}/{file.path}" for file in predictions.by_day[day])
        return self._same(paths)

    def _read_same(self, paths: tuple[str, ...]) -> Row | None:
        """What all rows have in the columns that vectors lack; None where rows differ."""
        if not self._lacking:
            return {}
        rows = pa.concat_tables([_reading(path, lambda f: f.read(self._lacking)) for path in paths])
        try:
            seen = rows.group_by(self._lacking).aggregate([])
        except pa.ArrowException:  # lists, for example, cannot be compared
            return None
        return seen.to_pylist()[0] if seen.num_rows == 1 else None

    def _from_vectors(
        self,
        predictions: Predictions,
        vectors: "Vectors | None",
        days: Iterable[date],
        filters: Iterable[Filter],
    ) -> dict[date, list[Row]]:
        """Rows by day, of the days of which the vector store has the same scoring.

        None if it cannot be read: the files can, though that takes longer.
        """
        keys, spec = predictions.keys, self._workload.vectors
        found: dict[date, list[Row]] = {
            d: [] for d in days if vectors and vectors.holds(d, keys[d])
        }
        if not found or vectors is None:
            return {}
        where = filter_sql(spec, filters)
        try:
            rows = vectors.rows_of(found, [*self._shared, spec.day], where).to_pylist()
        except (OSError, ValueError, RuntimeError) as error:
            logger.warning("files are read instead of the vector table %s: %s", spec.name, error)
            return {}
        for row in rows:
            found[row.pop(spec.day)].append(row)
        return found

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
    if isinstance(error, FileNotFoundError):
        return ViewGone(f"{what}: files were removed while they were read ({error})")
    return StoreUnreadable(
        f"{what} cannot be read: {error}; if a file is damaged, delete the folder of its table and "
        "`batch-assets run` builds it again"
    )
