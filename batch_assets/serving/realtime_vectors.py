"""Rows scored in real time, as a search sees them: few, so that each is compared."""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from batch_assets.serving.blocks import Row, Value
from batch_assets.serving.memory_index import Vectors, distances_to


class Kept(Protocol):
    """A row that was scored, with its vector, float32 [dimensions]."""

    @property
    def number(self) -> int: ...
    @property
    def row(self) -> Row: ...
    @property
    def vector(self) -> npt.NDArray[np.float32]: ...


class HasRows(Protocol):
    """Who scores in real time."""

    def rows(self) -> Sequence[Kept]: ...


class RealtimeRows:
    """The rows of one moment, with their vectors in one matrix; never changes.

    Args:
        kept: the rows.
        matrix: float32 [rows, dimensions].
    """

    def __init__(self, kept: Sequence[Kept], matrix: Vectors) -> None:
        self.kept, self.matrix = kept, matrix

    def find(self, column: str, key: Value) -> Kept | None:
        """The row of a key."""
        return next((one for one in self.kept if one.row[column] == key), None)

    def nearest(
        self, query: Vectors, metric: str, wanted: Callable[[Row], bool]
    ) -> Iterator[tuple[float, Row]]:
        """Distance and row of those that are wanted, nearest first."""
        distances = distances_to(self.matrix, query, metric)
        for at in np.argsort(distances, kind="stable").tolist():
            if wanted(self.kept[at].row):
                yield float(distances[at]), self.kept[at].row


class RealtimeVectors:
    """Keeps the matrix of the rows, to which most searches find a few rows added, or none.

    Args:
        dimensions: of their vectors.
    """

    def __init__(self, dimensions: int) -> None:
        self._lock = threading.Lock()
        self._numbers: list[int] = []
        self._matrix: Vectors = np.empty((0, dimensions), np.float32)

    def of(self, realtime: HasRows) -> RealtimeRows:
        """The rows that there are now."""
        kept = realtime.rows()
        numbers = [one.number for one in kept]
        with self._lock:
            known = len(self._numbers)
            gone = numbers[:known] != self._numbers
            if gone or len(kept) > len(self._matrix):
                # Not in place: others may still read the old one.
                grown = np.empty((2 * len(kept), self._matrix.shape[1]), np.float32)
                known = 0 if gone else known
                grown[:known] = self._matrix[:known]
                self._matrix = grown
            for at in range(known, len(kept)):
                self._matrix[at] = kept[at].vector
            self._numbers = numbers
            return RealtimeRows(kept, self._matrix[: len(kept)])
