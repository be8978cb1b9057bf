"""What requests read: one version of predictions and vectors, and what of it is in memory.

A view never changes. A request takes the newest one once and reads everything from it, so that no
answer mixes two versions; a thread makes the next one when the tables have changed, and puts it in
place by one assignment. Days that are the same in both are shared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from batch_assets.serving.blocks import DayBlock, KeyIndex, Value
from batch_assets.serving.bloom import filter_bytes
from batch_assets.serving.hashes import hash_of
from batch_assets.storage.warehouse import Snapshot as Predictions

if TYPE_CHECKING:
    from rbloom import Bloom

    from batch_assets.storage.vectors.search import Snapshot as Vectors


@dataclass(frozen=True)
class View:
    """One version of everything that is served of a workload.

    Args:
        number: counts the views of this process, from 1.
        predictions: files of the table of predictions.
        vectors: the vector table, pinned; None if there is none.
        blocks: the days in memory.
        index: finds keys in them.
        filters: of days outside memory, what knows which keys they may have. A day that is in
            neither has not been loaded yet.
        model_version: the live model's; None if none is live.
        made_at: UTC.
        problems: days that cannot be read, and why.
    """

    number: int
    predictions: Predictions
    vectors: "Vectors | None"
    blocks: Mapping[date, DayBlock]
    index: KeyIndex
    filters: "Mapping[date, Bloom]"
    model_version: str | None
    made_at: datetime
    problems: Mapping[date, str] = field(default_factory=dict)

    @property
    def days(self) -> dict[date, str]:
        """Day -> key of what it was made from."""
        return self.predictions.keys

    @cached_property
    def newest_first(self) -> Sequence[date]:
        """All days, descending."""
        return sorted(self.days, reverse=True)

    @cached_property
    def confirmed_at(self) -> datetime | None:
        """When predictions were last published, UTC; None if they never were."""
        return max((file.added_at for file in self.predictions.files), default=None)

    @cached_property
    def bytes(self) -> int:
        """What blocks, index and filters take in memory."""
        filters = sum(filter_bytes(one) for one in self.filters.values())
        return sum(block.bytes for block in self.blocks.values()) + self.index.bytes + filters

    @cached_property
    def _outside(self) -> "Sequence[tuple[date, Bloom | None]]":
        outside = [day for day in self.newest_first if day not in self.blocks]
        return [(day, self.filters.get(day)) for day in outside]

    def days_to_ask(self, key: Value) -> list[date]:
        """The days outside memory that may have a key, the newest first; usually one or none."""
        if not self._outside:
            return []
        wanted = hash_of(key)
        return [day for day, one in self._outside if one is None or wanted in one]
