"""Rows that were scored in real time, stored before their answer is given.

A commit outlives the process, however it ends. When the machine loses power, the last ones may be
lost: to wait for the disk takes longer than to score, and a batch will score these rows, too.

One SQLite file in the server's own folder. Several servers write to one, each in one commit a
batch of rows, and see each other's rows by their number. A row stays until a batch has scored its
key and the two were compared.
"""

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batch_assets.errors import BatchAssetsError
from batch_assets.storage.tables import Table

FILE = "realtime.sqlite"
WAIT_SECONDS = 5.0
_EPOCH = datetime(1970, 1, 1)
Row = dict[str, Any]


@dataclass(frozen=True)
class Kept:
    """A row that was scored.

    Args:
        number: of the row in the store; later rows have larger ones; 0 before it is stored.
        content: changes with what was asked.
        request: the row asked for, JSON.
        row: columns of the predictions table.
        vector: float32 [size].
    """

    content: str
    request: str
    row: Row
    vector: npt.NDArray[np.float32]
    number: int = 0


class RealtimeStore:
    """The rows of one workload; a connection for each thread that uses it.

    Args:
        folder: of the server, in the data home.
        workload: its name, and that of its table in the file.
        predictions: table whose columns a row has.
        key: column that identifies a row.
    """

    def __init__(self, folder: Path, workload: str, predictions: Table, key: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / FILE
        self._name, self._table, self._key = workload, predictions, key
        columns = ", ".join(f'"{name}"' for name in predictions.columns)
        self._columns = f"number, content, request, vector, {columns}"
        self._connection = sqlite3.connect(
            self.path, timeout=WAIT_SECONDS, isolation_level=None, check_same_thread=False
        )
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")  # outlives the process, see above
        self._connection.execute(
            f'CREATE TABLE IF NOT EXISTS "{workload}" (number INTEGER PRIMARY KEY AUTOINCREMENT, '
            f"content TEXT NOT NULL, request TEXT NOT NULL, vector BLOB NOT NULL, {columns}, "
            f'UNIQUE ("{key}"))'
        )
        found = [row[1] for row in self._connection.execute(f'PRAGMA table_info("{workload}")')]
        if set(found) != {"number", "content", "request", "vector", *predictions.columns}:
            self._connection.close()
            raise BatchAssetsError(
                f"{self.path} was written with other columns; move it away: what it holds is lost "
                "unless a batch scores it"
            )

    def put(self, rows: Sequence[Kept]) -> list[Kept]:
        """Store rows, all in one commit, durable when this returns.

        Returns:
            What is stored under their keys now: the row itself, or one that was there before.
        """
        marks = ", ".join("?" * (3 + len(self._table.columns)))
        names = self._columns.partition(", ")[2]
        keys = [row.row[self._key] for row in rows]
        with closing(self._connection.cursor()) as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            try:
                cursor.executemany(
                    f'INSERT INTO "{self._name}" ({names}) VALUES ({marks}) '
                    f'ON CONFLICT ("{self._key}") DO NOTHING',
                    map(self._values, rows),
                )
                stored = {kept.row[self._key]: kept for kept in self._of_keys(cursor, keys)}
                cursor.execute("COMMIT")
            except BaseException:
                cursor.execute("ROLLBACK")
                raise
        return [stored[key] for key in keys]

    def after(self, number: int) -> list[Kept]:
        """Rows with larger numbers, in the order in which they were stored."""
        with closing(self._connection.cursor()) as cursor:
            cursor.execute(
                f'SELECT {self._columns} FROM "{self._name}" WHERE number > ? ORDER BY number',
                (number,),
            )
            return [self._kept(values) for values in cursor]

    def remove(self, keys: Collection[str]) -> None:
        """Forget rows."""
        with closing(self._connection.cursor()) as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            cursor.executemany(
                f'DELETE FROM "{self._name}" WHERE "{self._key}" = ?', ((key,) for key in keys)
            )
            cursor.execute("COMMIT")

    def close(self) -> None:
        """Give the file back."""
        self._connection.close()

    def _of_keys(self, cursor: sqlite3.Cursor, keys: Sequence[str]) -> Iterable[Kept]:
        for key in keys:
            cursor.execute(
                f'SELECT {self._columns} FROM "{self._name}" WHERE "{self._key}" = ?', (key,)
            )
            yield self._kept(cursor.fetchone())

    def _values(self, kept: Kept) -> list[Any]:
        vector = np.ascontiguousarray(kept.vector, "<f4").tobytes()
        row = [_stored(kept.row[name]) for name in self._table.columns]
        return [kept.content, kept.request, vector, *row]

    def _kept(self, values: Sequence[Any]) -> Kept:
        number, content, request, vector, *row = values
        kinds = self._table.columns.items()
        named = {
            name: _read(value, kind) for (name, (kind, _)), value in zip(kinds, row, strict=True)
        }
        return Kept(content, request, named, np.frombuffer(vector, "<f4"), number)


def _stored(value: Any) -> Any:
    """As SQLite keeps it: moments in microseconds, days as text."""
    if isinstance(value, datetime):
        return round((value - _EPOCH) / timedelta(microseconds=1))
    return value.isoformat() if isinstance(value, date) else value


def _read(value: Any, kind: pa.DataType) -> Any:
    if value is None:
        return None
    if pa.types.is_timestamp(kind):
        return _EPOCH + timedelta(microseconds=value)
    if pa.types.is_date(kind):
        return date.fromisoformat(value)
    return value
