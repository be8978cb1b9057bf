"""Rows scored in real time, as a search sees them: few, so that each is compared."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batch_assets.serving.blocks import Row, Value
from batch_assets.serving.memory_index import Mask, Vectors, distances_to

VECTOR = "vector"


class HasVectors(Protocol):
    """Who scores in real time."""

    def vectors(self) -> pa.Table:
        """All rows: the columns of the predictions table, and ``vector``."""


class RealtimeRows:
    """The rows of one moment; never changes.

    Args:
        table: the columns of the predictions table, and ``vector``.
    """

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self.rows = table.num_rows

    def column(self, name: str) -> pa.Array:
        """The values of a column, in the order of the rows."""
        return pa.concat_arrays([*self.table[name].chunks, pa.array([], self.table[name].type)])

    def find(self, column: str, key: Value) -> Row | None:
        """The row of a key, with its vector, float32 [dimensions]."""
        at = pc.index(self.table[column], pa.scalar(key, self.table[column].type)).as_py()
        return None if at < 0 else {**self._row(at), VECTOR: self._matrix[at]}

    def nearest(self, query: Vectors, metric: str, mask: Mask) -> Iterator[tuple[float, Row]]:
        """Distance and row of those that the mask lets through, nearest first."""
        rows = np.flatnonzero(mask)
        distances = distances_to(self._matrix[rows], query, metric)
        for at in np.argsort(distances, kind="stable").tolist():
            yield float(distances[at]), self._row(int(rows[at]))

    def _row(self, at: int) -> Row:
        row: dict[str, Any] = self.table.drop_columns(VECTOR).slice(at, 1).to_pylist()[0]
        return row

    @cached_property
    def _matrix(self) -> npt.NDArray[np.float32]:
        numbers: npt.NDArray[np.float32] = self.column(VECTOR).flatten().to_numpy()
        return numbers.reshape(self.rows, -1)
