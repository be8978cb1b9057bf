"""Which days a table's fragments hold, read once for each fragment ever seen.

A fragment's files never change, so what was read of one stays true: asking again costs only
the fragments that are new since.
"""

import threading
from collections import defaultdict
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa

from batch_assets.storage.vectors.table import VectorTable

if TYPE_CHECKING:
    from lance import LanceDataset
    from lance.fragment import FragmentMetadata, LanceFragment

SCAN_ROWS = 262_144


@dataclass(frozen=True)
class DayState:
    """What a table holds of one day: the number of rows, and the versions they carry."""

    rows: int
    version_keys: frozenset[str]

    @property
    def version_key(self) -> str | None:
        """The version of all rows, or None if they carry more than one."""
        return next(iter(self.version_keys)) if len(self.version_keys) == 1 else None


@dataclass(frozen=True)
class FragmentDays:
    """One fragment as committed, and the rows and versions of each day in it."""

    metadata: "FragmentMetadata"
    days: dict[date, DayState]

    @property
    def identity(self) -> str:
        """Names the fragment's files and deletions; two equal ones hold the same rows."""
        files = ",".join(file.path for file in self.metadata.files)
        return f"{files}|{self.metadata.deletion_file}"


class FragmentIndex:
    """Remembers the days of fragments, for one table; safe to share between threads."""

    def __init__(self, spec: VectorTable) -> None:
        self._spec = spec
        self._known: dict[str, dict[date, DayState]] = {}
        self._lock = threading.Lock()

    def fragments(self, dataset: "LanceDataset") -> list[FragmentDays]:
        """The fragments of this version of the dataset, with what each holds."""
        with self._lock:
            found = [self._look(fragment) for fragment in dataset.get_fragments()]
            self._known = {one.identity: one.days for one in found}
        return found

    def days(self, dataset: "LanceDataset") -> dict[date, DayState]:
        """The days of this version of the dataset, ascending."""
        return merge_days(self.fragments(dataset))

    def _look(self, fragment: "LanceFragment") -> FragmentDays:
        """What one fragment holds, from memory if it was seen before."""
        unread = FragmentDays(fragment.metadata, {})
        days = self._known.get(unread.identity)
        if days is None:
            days = self._read(fragment)
        return FragmentDays(unread.metadata, days)

    def _read(self, fragment: "LanceFragment") -> dict[date, DayState]:
        """Count a fragment's rows by day and collect the versions; two columns are read."""
        columns = [self._spec.day, self._spec.version_column]
        rows: dict[date, int] = defaultdict(int)
        versions: dict[date, set[str]] = defaultdict(set)
        for batch in fragment.to_batches(columns=columns, batch_size=SCAN_ROWS):
            for day, version, count in _groups(batch, *columns):
                rows[day] += count
                versions[day].add(version)
        return {day: DayState(rows[day], frozenset(versions[day])) for day in rows}


def merge_days(fragments: list[FragmentDays]) -> dict[date, DayState]:
    """The days of several fragments together, ascending."""
    rows: dict[date, int] = defaultdict(int)
    versions: dict[date, frozenset[str]] = defaultdict(frozenset)
    for fragment in fragments:
        for day, state in fragment.days.items():
            rows[day] += state.rows
            versions[day] |= state.version_keys
    return {day: DayState(rows[day], versions[day]) for day in sorted(rows)}


def _groups(batch: pa.RecordBatch, day: str, version: str) -> list[tuple[date, str, int]]:
    """The distinct pairs of day and version in a batch, with their number of rows."""
    days, versions = batch[day].unique(), batch[version].unique()
    if len(days) == 1 and len(versions) == 1:
        return [(days[0].as_py(), versions[0].as_py(), batch.num_rows)]
    grouped = pa.Table.from_batches([batch]).group_by([day, version]).aggregate([([], "count_all")])
    columns = (grouped[name].to_pylist() for name in (day, version, "count_all"))
    return list(zip(*columns, strict=True))
