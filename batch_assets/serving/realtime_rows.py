"""Rows that were scored in real time, in memory: by key, and by what they are about."""

import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa

from batch_assets.serving.lookup import Found
from batch_assets.serving.realtime_store import Kept
from batch_assets.serving.workload import Workload

VECTOR = "vector"


class ScoredRows:
    """Rows of one workload; one thread changes them, any may read them."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._rows: dict[str, Kept] = {}
        self._lock = threading.Lock()
        self._table: pa.Table | None = None
        self._fresh: list[Kept] = []
        self._of: dict[str, dict[Any, dict[str, Kept]]] = {
            column: defaultdict(dict) for column in workload.entities.values()
        }

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def __iter__(self) -> Iterator[Kept]:
        return iter(list(self._rows.values()))

    def get(self, key: str) -> Kept | None:
        """The row of a key."""
        return self._rows.get(key)

    def of_entity(self, column: str, value: Any) -> list[Kept]:
        """The rows of an entity, in no order."""
        return list(self._of[column].get(value, {}).values())

    def keys_by_day(self) -> dict[date, list[str]]:
        """All keys."""
        days: dict[date, list[str]] = defaultdict(list)
        for key, kept in self._rows.items():
            days[kept.row["day"]].append(key)
        return days

    def vectors(self) -> pa.Table:
        """All rows: the columns of the predictions table, and ``vector``."""
        with self._lock:
            if self._table is None:
                self._table, self._fresh = self._as_table([]), list(self)
            if self._fresh:
                parts = [self._table, self._as_table(self._fresh)]
                self._table, self._fresh = pa.concat_tables(parts).combine_chunks(), []
            return self._table

    def _as_table(self, kept: Sequence[Kept]) -> pa.Table:
        table = pa.Table.from_pylist([one.row for one in kept], self._workload.predictions.schema)
        size = self._workload.vectors.dimensions
        flat = np.concatenate([one.vector for one in kept]) if kept else np.empty(0, np.float32)
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(flat, pa.float32()), size)
        return table.append_column(VECTOR, vectors)

    def keep(self, kept: Kept) -> None:
        """Add a row."""
        key = kept.row[self._workload.key]
        with self._lock:
            if key in self._rows:
                self._table = None
            elif self._table is not None:
                self._fresh.append(kept)
            self._rows[key] = kept
        for column, of in self._of.items():
            of[kept.row[column]][key] = kept

    def drop(self, key: str) -> None:
        """Forget a row, if it is there."""
        with self._lock:
            kept = self._rows.pop(key, None)
            if kept is None:
                return
            self._table, self._fresh = None, []
        for column, of in self._of.items():
            of[kept.row[column]].pop(key, None)
            if not of[kept.row[column]]:
                del of[kept.row[column]]


def as_found(kept: Kept) -> Found:
    """The row as an answer."""
    return Found(kept.row, "realtime")
