"""Rows from the store that were asked for lately."""

import threading
from collections import OrderedDict
from datetime import date
from sys import getsizeof

from batch_assets.serving.blocks import Row, Value
from batch_assets.serving.view import View
from batch_assets.storage.tables import DAY

PLACE_BYTES = 300
"""Of a row in the list, beside the row itself."""


class HotRows:
    """Rows that were asked for, the last ones, bounded in bytes; safe to share between threads.

    A row is remembered with the key of its day, and counts only as long as a view has that key.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._rows: OrderedDict[Value, tuple[date, str, Row, int]] = OrderedDict()
        self._lock = threading.Lock()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, view: View, key: Value) -> Row | None:
        """The row of a key, if it is of this view."""
        held = self._rows.get(key)
        if held is None:
            return None
        day, version, row, _ = held
        if view.days.get(day) != version:
            return None
        with self._lock:
            if key in self._rows:
                self._rows.move_to_end(key)
        return row

    def put(self, version: str, key: Value, row: Row) -> None:
        """Remember a row of a day with this key."""
        size = PLACE_BYTES + getsizeof(row) + sum(map(getsizeof, row.values()))
        with self._lock:
            self._drop(key)
            self._rows[key] = row[DAY], version, row, size
            self.bytes += size
            while self.bytes > self._most and self._rows:
                self._drop(next(iter(self._rows)))

    def keep_only(self, view: View) -> None:
        """Forget rows of days that a view has not, or has anew."""
        for key, (day, version, _, _) in list(self._rows.items()):
            if view.days.get(day) != version:
                with self._lock:  # not around all of them: others wait for it
                    self._drop(key)

    def _drop(self, key: Value) -> None:
        held = self._rows.pop(key, None)
        if held:
            self.bytes -= held[3]
