"""One commit a change, exact under racing writers.

Lance decides whether two commits that were prepared on the same version may both stand:

* A *swap* (`Update`) that removes fragments conflicts with every other change of those
  fragments. Swaps of different days never conflict.
* A swap that removes nothing conflicts with nothing: two writers of the same new day would
  both succeed. So a day that is new is committed as a `Merge` (the whole list of fragments),
  which conflicts with every other change of rows, whatever it was.

After a conflict the change is planned again on the newest version, with the same files: the
rows were written once, beside the table, and only the commit is repeated.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa

from batch_assets.storage.vectors.errors import VectorStoreError
from batch_assets.storage.vectors.fragments import FragmentDays
from batch_assets.storage.vectors.table import VectorTable

if TYPE_CHECKING:
    from lance import LanceDataset
    from lance.fragment import FragmentMetadata

UNNUMBERED = 0
"""The id with which a fragment asks Lance for one that no fragment of the table ever had."""

PATIENCE_S = 600.0
"""Seconds for which a change is tried again before it is given up."""


@dataclass
class Change:
    """Fragments that leave, fragments that lose rows, and fragments that come."""

    removed: list[int] = field(default_factory=list)
    updated: list["FragmentMetadata"] = field(default_factory=list)
    new: list["FragmentMetadata"] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Whether nothing changes."""
        return not (self.removed or self.updated or self.new)


Plan = Callable[["LanceDataset"], Change]


def commit(open_latest: Callable[[], "LanceDataset"], plan: Plan, table: str) -> "LanceDataset":
    """Commit what `plan` says of the newest version; plan again whenever another was faster.

    Arguments:
        open_latest: gives the newest version of the dataset.
        plan: says what changes, given that version; called once for each attempt.
        table: the table's name, for messages.

    Returns:
        The version committed, or the newest one if there was nothing to change.

    Raises:
        VectorStoreError: others kept winning for ten minutes.
    """
    started, attempt = time.monotonic(), 0
    while True:
        base = open_latest()
        change = plan(base)
        if change.empty:
            return base
        try:
            return _commit_once(base, change)
        except OSError as error:
            if not is_conflict(error):
                raise
            attempt += 1
            if time.monotonic() - started > PATIENCE_S:
                raise VectorStoreError(
                    f"Vector table {table}: {attempt} attempts to commit lost against other "
                    f"writers within {PATIENCE_S:.0f} s. Run again when fewer write at once."
                ) from error
            back_off(attempt)


def back_off(attempt: int) -> None:
    """Wait a random time, up to 10 ms after the first conflict and half a second later on."""
    time.sleep(random.random() * min(0.5, 0.01 * 2**attempt))


def is_conflict(error: OSError) -> bool:
    """Whether Lance refused a commit because another one came first."""
    from lance.commit import CommitConflictError

    return isinstance(error, CommitConflictError) or "commit conflict" in str(error)


def create(uri: str, schema: pa.Schema, storage_options: dict[str, str] | None) -> None:
    """Create an empty table; of several processes one does, and the others leave it alone.

    Lance's `write_dataset(mode="create")` and LanceDB's `create_table` look first and commit
    later: of two at once, the second may lay an empty table over the first one's rows. With
    no retries, the commit fails on whatever is there.
    """
    from lance import LanceDataset, LanceOperation

    empty = LanceOperation.Overwrite(schema, [])
    LanceDataset.commit(uri, empty, read_version=0, max_retries=0, storage_options=storage_options)


def replacement(
    spec: VectorTable,
    base: "LanceDataset",
    fragments: Sequence[FragmentDays],
    days: Sequence[date],
    new: Sequence["FragmentMetadata"],
) -> Change:
    """The change after which `new` is all that the table holds of these days.

    Fragments that hold other days too (only other software makes them) keep those rows.
    """
    change, leaving = Change(new=list(new)), set(days)
    for fragment in fragments:
        if not leaving.intersection(fragment.days):
            continue
        if leaving.issuperset(fragment.days):
            change.removed.append(fragment.metadata.id)
            continue
        listed = ", ".join(f"DATE '{day.isoformat()}'" for day in sorted(leaving))
        kept = base.get_fragment(fragment.metadata.id).delete(f"`{spec.day}` IN ({listed})")
        change.updated.append(kept)
    return change


def _commit_once(base: "LanceDataset", change: Change) -> "LanceDataset":
    """Commit on this version, or raise Lance's conflict."""
    from lance import LanceDataset, LanceOperation

    new = [replace(fragment, id=UNNUMBERED) for fragment in change.new]
    operation: LanceOperation.BaseOperation
    if change.removed or change.updated:
        operation = LanceOperation.Update(
            removed_fragment_ids=change.removed,
            updated_fragments=change.updated,
            new_fragments=new,
        )
    else:
        present = [fragment.metadata for fragment in base.get_fragments()]
        operation = LanceOperation.Merge(fragments=[*present, *new], schema=base.lance_schema)
    return LanceDataset.commit(base, operation, read_version=base.version)
