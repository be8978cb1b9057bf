"""The rows of one day, read by position."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batch_assets.storage.vectors.search import Snapshot

if TYPE_CHECKING:
    from lance import LanceFragment


@dataclass(frozen=True)
class DayRows:
    """Rows of one version of a table; later commits do not change what is read."""

    fragments: "tuple[LanceFragment, ...]"
    counts: tuple[int, ...]

    def column(self, name: str) -> pa.ChunkedArray:
        """One column of all rows."""
        return pa.chunked_array(
            [chunk for one in self.fragments for chunk in one.to_table([name])[name].chunks]
        )

    def kind(self, name: str) -> pa.DataType:
        """The type of a column."""
        return self.fragments[0].schema.field(name).type

    def first(self, name: str) -> object:
        """The value of one column in the first row."""
        return self.fragments[0].to_table([name], limit=1)[name][0].as_py()

    def take(self, positions: npt.NDArray[np.int64], columns: Sequence[str]) -> pa.Table:
        """Columns of the rows at these positions (int64 [n]) of ``column``, in their order."""
        wanted, back = np.unique(positions, return_inverse=True)
        ends = np.cumsum(self.counts)
        cuts = np.searchsorted(wanted, [0, *ends])
        parts = [
            fragment.take((wanted[cuts[n] : cuts[n + 1]] - (ends[n] - count)).tolist(), [*columns])
            for n, (fragment, count) in enumerate(zip(self.fragments, self.counts, strict=True))
            if cuts[n + 1] > cuts[n]
        ]
        return pa.concat_tables(parts).take(pa.array(back)) if parts else self._nothing(columns)

    def _nothing(self, columns: Sequence[str]) -> pa.Table:
        return self.fragments[0].to_table([*columns], limit=0)


def rows_of_day(snapshot: Snapshot, day: date, version: str) -> DayRows | None:
    """The rows of a day; None unless there are any, and all carry this version."""
    held = [one for one in snapshot.fragments if day in one.days]
    if not held or any(
        set(one.days) != {day} or one.days[day].version_key != version for one in held
    ):
        return None
    fragments = tuple(snapshot.dataset.get_fragment(one.metadata.id) for one in held)
    return DayRows(fragments, tuple(one.days[day].rows for one in held))
