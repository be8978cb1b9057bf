"""Which days of a view are in memory, and how they get there: the newest first, within a bound."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from batch_assets.errors import BatchAssetsError
from batch_assets.serving.blocks import INDEX_BYTES, DayBlock
from batch_assets.serving.bloom import FilterFolder, filter_of
from batch_assets.serving.stored import StoredDays
from batch_assets.serving.view import View
from batch_assets.storage.warehouse import Snapshot as Predictions

if TYPE_CHECKING:
    from rbloom import Bloom

logger = logging.getLogger(__name__)
AGAIN_SECONDS = 60.0
"""After which a day that could not be read is tried again."""
GUESSED_BYTES = 150
"""A row in memory, before any has been loaded."""
FILTER_BYTES = 2.4
"""A row of a day that is not in memory."""
FILTERS_SHARE = 0.5
"""Of the bound, which filters take at most; older days are looked for in the store."""
Loaded = TypeVar("Loaded")


@dataclass
class InMemory:
    """What a view has in memory; ``complete`` if that is all that it is to have."""

    blocks: dict[date, DayBlock] = field(default_factory=dict)
    filters: "dict[date, Bloom]" = field(default_factory=dict)
    problems: dict[date, str] = field(default_factory=dict)
    complete: bool = True


class Loader:
    """Loads days for one view after the other.

    Args:
        stored: reads them.
        folder: where filters are kept.
        most_bytes: of blocks, their part of the index, and filters.
    """

    def __init__(self, stored: StoredDays, folder: Path, most_bytes: int) -> None:
        self._stored = stored
        self._kept = FilterFolder(folder)
        self._most = most_bytes
        self._sizes: dict[tuple[date, str], int] = {}
        self._failed: dict[tuple[date, str], tuple[float, str]] = {}

    def next(self, old: View, predictions: Predictions, rows: int) -> InMemory:
        """Blocks and filters of the next view: the old one's, where a day is the same, and others.

        Args:
            rows: about how many more may be read now.
        """
        days = sorted(predictions.keys.items(), reverse=True)
        self._sizes = {at: self._sizes[at] for at in days if at in self._sizes}
        self._failed = {at: self._failed[at] for at in days if at in self._failed}
        memory, outside = InMemory(), list[date]()
        room = self._most - FILTER_BYTES * predictions.rows()
        a_row = _bytes_a_row(old)
        for day, key in days:
            count = predictions.rows([day])
            room -= self._sizes.get((day, key), count * a_row)
            if room < 0 or outside:
                outside.append(day)
            elif old.days.get(day) == key and day in old.blocks:
                memory.blocks[day] = old.blocks[day]
            elif rows <= 0:
                memory.complete = False
            else:
                rows -= count
                block = self._try(memory, predictions, day, self._stored.block)
                if block is not None:
                    memory.blocks[day] = block
                    size = self._sizes[day, key] = block.bytes + INDEX_BYTES * block.rows
                    room += count * a_row - size
                    a_row = size / count if count else a_row
        self._add_filters(memory, old, predictions, outside, rows)
        return memory

    def next_try(self) -> float | None:
        """When days that could not be read are to be tried again (`time.monotonic`)."""
        return min((at for at, _ in self._failed.values()), default=None)

    def tidy(self, predictions: Predictions) -> None:
        """Remove what is kept on disk of days that are gone, or were made anew."""
        self._kept.forget_others(predictions.keys.values())

    def _add_filters(
        self,
        memory: InMemory,
        old: View,
        predictions: Predictions,
        outside: list[date],
        rows: int,
    ) -> None:
        room = self._most * FILTERS_SHARE
        for day in outside:
            key, count = predictions.keys[day], predictions.rows([day])
            room -= FILTER_BYTES * count
            if room < 0:
                return
            same = old.filters.get(day) if old.days.get(day) == key else None
            made = same or self._kept.load(key)
            if made is None and rows > 0:
                rows -= count
                made = self._try(memory, predictions, day, self._new_filter)
            if made is not None:
                memory.filters[day] = made
            elif day not in memory.problems:
                memory.complete = False

    def _new_filter(self, predictions: Predictions, day: date) -> "Bloom":
        made = filter_of(self._stored.hashes(predictions, day))
        self._kept.keep(predictions.keys[day], made)
        return made

    def _try(
        self,
        memory: InMemory,
        predictions: Predictions,
        day: date,
        load: Callable[[Predictions, date], Loaded],
    ) -> Loaded | None:
        """Load something of a day; one that cannot be read is left to the store, which says so."""
        at = (day, predictions.keys[day])
        again_at, why = self._failed.get(at, (0.0, ""))
        if why and time.monotonic() < again_at:
            memory.problems[day] = why
            return None
        try:
            made = load(predictions, day)
        except BatchAssetsError as error:
            logger.warning("%s: %s", day, error)
            self._failed[at] = time.monotonic() + AGAIN_SECONDS, str(error)
            memory.problems[day] = str(error)
            return None
        self._failed.pop(at, None)
        return made


def _bytes_a_row(view: View) -> float:
    rows = sum(block.rows for block in view.blocks.values())
    taken = sum(block.bytes for block in view.blocks.values())
    return (taken / rows if rows else GUESSED_BYTES) + INDEX_BYTES
