"""Days of predictions in memory, and the index that finds a key among all of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batch_assets.serving.hashes import Hashes, hash_of, hashes_of
from batch_assets.storage.tables import DAY, Table

Value = str | int
Row = dict[str, Any]
Getter = Callable[[int], Any]
FEW = 127
"""Columns with at most so many values a day are kept as numbers of these values, a byte each."""
INDEX_BYTES = 16
"""What a row takes in a :class:`KeyIndex`."""
_LOOKED_AT = 1_000
_EPOCH = datetime(1970, 1, 1)
_FORMATS = {
    pa.int8(): "b",
    pa.int16(): "h",
    pa.int32(): "i",
    pa.int64(): "q",
    pa.uint8(): "B",
    pa.uint16(): "H",
    pa.uint32(): "I",
    pa.uint64(): "Q",
    pa.float32(): "f",
    pa.float64(): "d",
    pa.timestamp("us"): "q",
}


@dataclass(frozen=True)
class _EntityIndex:
    """The rows of a day in the order of the hashes of one column."""

    hashes: npt.NDArray[np.uint32]
    rows: npt.NDArray[np.uint32]

    def rows_of(self, value: Value) -> list[int]:
        """Rows whose value has this one's hash, ascending."""
        wanted = np.uint32(hash_of(value) >> 32)
        low = self.hashes.searchsorted(wanted, "left")
        high = self.hashes.searchsorted(wanted, "right")
        return sorted(self.rows[low:high].tolist())


class DayBlock:
    """One day of a table of predictions, whose rows are read by number in microseconds.

    Args:
        day: the day.
        key: of what the day was made from.
        rows: its rows; the day's own column may be missing.
        column: that identifies a row.
        entities: columns by whose values rows are looked up.

    Raises:
        BatchAssetsError: a key or entity column that has nulls, or is no text or integer.
    """

    def __init__(
        self,
        table: Table,
        day: date,
        key: str,
        rows: pa.Table,
        column: str,
        entities: Iterable[str],
    ) -> None:
        self.day = day
        self.key = key
        indexed = [name for name in table.columns if name in set(entities)]
        names = [name for name in table.columns if name != DAY]
        self._columns = {
            name: _packed(_whole(rows[name]), compact=name not in {column, *indexed})
            for name in names
        }
        self._entities = {name: _entity_index(self._columns[name]) for name in indexed}
        self.rows = rows.num_rows
        self._names = tuple(table.columns)
        self.bytes = sum(column.nbytes for column in self._columns.values()) + sum(
            one.hashes.nbytes + one.rows.nbytes for one in self._entities.values()
        )

    @cached_property
    def _getters(self) -> dict[str, Getter]:
        made = {name: _getter(column) for name, column in self._columns.items()}
        return {name: made.get(name, lambda row: self.day) for name in self._names}

    def hashes(self, column: str) -> Hashes:
        """The hashes of a column's values, in the order of the rows."""
        return hashes_of(self._columns[column])

    def column(self, name: str) -> pa.Array:
        """The values of a column, in the order of the rows; not the day's own."""
        return self._columns[name]

    def value(self, column: str, row: int) -> Any:
        """One value."""
        return self._getters[column](row)

    def row(self, row: int) -> Row:
        """All columns of one row."""
        return {name: get(row) for name, get in self._getters.items()}

    def rows_of(self, entity: str, value: Value) -> list[int]:
        """Numbers of the rows whose column has this value, ascending."""
        get = self._getters[entity]
        return [row for row in self._entities[entity].rows_of(value) if get(row) == value]


class KeyIndex:
    """Finds the rows of a key in many blocks at once; immutable, 16 bytes a row.

    All hashes stand in one ascending array, so that a look-up takes as long with one day as with
    a thousand. Beside each stand the block's slot (32 bits) and the row in it.
    """

    def __init__(
        self,
        column: str,
        slots: Mapping[int, DayBlock] | None = None,
        hashes: Hashes | None = None,
        places: npt.NDArray[np.uint64] | None = None,
    ) -> None:
        self._column = column
        self._slots = dict(slots or {})
        self._hashes = np.empty(0, np.uint64) if hashes is None else hashes
        self._places = np.empty(0, np.uint64) if places is None else places
        self._read = self._hashes.data  # gives one value in a tenth of numpy's time

    def __len__(self) -> int:
        return len(self._hashes)

    @property
    def bytes(self) -> int:
        """What the index takes in memory, without the blocks."""
        return int(self._hashes.nbytes + self._places.nbytes)

    def holding(self, blocks: Sequence[DayBlock]) -> "KeyIndex":
        """An index of exactly these blocks; what this one has of them is not computed again."""
        wanted = {id(block) for block in blocks}
        slots = {slot: block for slot, block in self._slots.items() if id(block) in wanted}
        hashes, places = self._hashes, self._places
        if len(slots) < len(self._slots):
            kept = np.isin(places >> np.uint64(32), np.array([*slots], np.uint64))
            hashes, places = hashes[kept], places[kept]
        present = {id(block) for block in slots.values()}
        added = [block for block in blocks if id(block) not in present]
        if added:
            free = (n for n in range(len(slots) + len(added)) if n not in slots)
            numbered = dict(zip(free, added, strict=False))
            new, at = _sorted_places(numbered, self._column)
            where = hashes.searchsorted(new)
            hashes, places = np.insert(hashes, where, new), np.insert(places, where, at)
            slots |= numbered
        return KeyIndex(self._column, slots, hashes, places)

    def find(self, key: Value) -> tuple[DayBlock, int] | None:
        """The block and the row of a key; of several, that of the newest day."""
        wanted = hash_of(key)
        at = int(self._hashes.searchsorted(np.uint64(wanted)))
        best: tuple[DayBlock, int] | None = None
        while at < len(self._read) and self._read[at] == wanted:
            place = int(self._places[at])
            block, row = self._slots[place >> 32], place & 0xFFFFFFFF
            if (best is None or block.day > best[0].day) and block.value(self._column, row) == key:
                best = block, row
            at += 1
        return best


def _sorted_places(
    blocks: Mapping[int, DayBlock], column: str
) -> tuple[Hashes, npt.NDArray[np.uint64]]:
    hashes = np.concatenate([block.hashes(column) for block in blocks.values()])
    places = np.concatenate(
        [
            np.arange(block.rows, dtype=np.uint64) | np.uint64(slot << 32)
            for slot, block in blocks.items()
        ]
    )
    order = np.argsort(hashes)
    return hashes[order], places[order]


def _entity_index(column: pa.Array) -> _EntityIndex:
    hashes = (hashes_of(column) >> np.uint64(32)).astype(np.uint32)
    order = np.argsort(hashes, kind="stable").astype(np.uint32)
    return _EntityIndex(hashes[order], order)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """The column as one array that owns no more than its rows."""
    return pa.concat_arrays([*column.chunks, pa.array([], column.type)])


def _packed(column: pa.Array, compact: bool) -> pa.Array:
    """Columns with few values a day as bytes that number them."""
    if not compact or len(column.slice(0, _LOOKED_AT).unique()) > FEW:
        return column
    encoded = column.dictionary_encode()
    if len(encoded.dictionary) > FEW:
        return column
    return pa.DictionaryArray.from_arrays(encoded.indices.cast(pa.int8()), encoded.dictionary)


def _getter(column: pa.Array) -> Getter:
    """What gives one value as a Python object; a tenth of the time of Arrow's own way."""
    if pa.types.is_dictionary(column.type):
        values = column.dictionary.to_pylist()
        number = _getter(column.indices)
        if column.null_count:
            return lambda row: None if (n := number(row)) is None else values[n]
        return lambda row: values[number(row)]
    if column.null_count or column.offset:
        return lambda row: column[row].as_py()
    if pa.types.is_string(column.type):
        _, offsets, data = column.buffers()
        ends, text = memoryview(offsets).cast("i"), memoryview(data or b"")
        return lambda row: str(text[ends[row] : ends[row + 1]], "utf-8")
    if column.type in _FORMATS and len(column):
        held: Any = memoryview(column.buffers()[1]).cast("B")
        numbers = held.cast(_FORMATS[column.type])
        if pa.types.is_timestamp(column.type):
            return lambda row: _EPOCH + timedelta(microseconds=numbers[row])
        return numbers.__getitem__
    return lambda row: column[row].as_py()
