"""Keeps the newest view: looks for changes, loads days into memory, newest first."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from deltalake.exceptions import DeltaError

from batch_assets.errors import BatchAssetsError
from batch_assets.serving.blocks import INDEX_BYTES, DayBlock, KeyIndex
from batch_assets.serving.bloom import FilterFolder, filter_of
from batch_assets.serving.budget import Budget
from batch_assets.serving.stored import StoredDays, StoreUnreadable, ViewGone
from batch_assets.serving.view import View
from batch_assets.serving.workload import Workload
from batch_assets.storage.models import ModelStore
from batch_assets.storage.vectors import VectorStore, VectorStoreError
from batch_assets.storage.warehouse import Snapshot as Predictions
from batch_assets.storage.warehouse import Warehouse

if TYPE_CHECKING:
    from rbloom import Bloom

    from batch_assets.storage.vectors.search import Snapshot as Vectors

logger = logging.getLogger(__name__)
POLL_SECONDS = 1.0
REMOTE_SECONDS = 10.0
"""How often a store that is no folder is looked at."""
FIRST_ROWS = 250_000
"""Rows in memory, in whole days, before the server says that it is ready."""
MOST_ROWS = 1_000_000
"""Rows that one view may have more of than the last."""
PATIENCE_SECONDS = 1.0
"""How long a view waits for the predictions of vectors that have been published already."""
AGAIN_SECONDS = 60.0
"""After which a day that could not be read is tried again."""
FILTER_BYTES = 2.4
"""A row of a day that is not in memory."""
FILTERS_SHARE = 2
"""Filters take at most this part of the memory for predictions."""
GUESSED_BYTES = 150
"""A row in memory, before any has been loaded."""
Answer = TypeVar("Answer")
Listener = Callable[[View, View], None]


class Stores(Protocol):
    """Where a workload's results are, and how much of them may be in memory."""

    @property
    def workload(self) -> Workload: ...

    @property
    def warehouse(self) -> Warehouse: ...

    @property
    def vectors(self) -> VectorStore: ...

    @property
    def models(self) -> ModelStore: ...

    @property
    def folder(self) -> Path: ...

    @property
    def budget(self) -> Budget: ...


@dataclass
class _Memory:
    """What the next view will hold."""

    blocks: dict[date, DayBlock] = field(default_factory=dict)
    filters: "dict[date, Bloom]" = field(default_factory=dict)
    problems: dict[date, str] = field(default_factory=dict)
    complete: bool = True


class Views:
    """The views of one workload.

    Args:
        stores: read only; what is kept on disk goes below ``folder``.
    """

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self.stored = StoredDays(stores.workload)
        self._filters = FilterFolder(stores.folder / stores.workload.name)
        table = stores.workload.predictions
        empty = Predictions(table, f"{stores.warehouse.root}/{table.name}", -1, ())
        index = KeyIndex(stores.workload.key)
        self.current = View(0, empty, None, {}, index, {}, None, datetime.now(UTC))
        self.complete = False
        self.failure: str | None = None
        self.errors = 0
        self._failed_at: dict[tuple[date, str], tuple[float, str]] = {}
        self._sizes: dict[tuple[date, str], int] = {}
        self._listeners: list[Listener] = []
        self._looked_at: tuple[object, ...] | None = None
        self._making = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Make a first view of the newest days; all other days follow in the background."""
        try:
            self.renew(FIRST_ROWS)
        except Exception as error:  # the next look may succeed; until then nothing is there
            self._note(error)
        name = f"views of {self._stores.workload.name}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread:
            self._thread.join()

    def listen(self, listener: Listener) -> None:
        """Call ``listener(old, new)`` after each new view, in the thread that made it."""
        self._listeners.append(listener)

    def refresh(self) -> View:
        """Look at the tables now; gives the newest view, which may lack days in memory.

        Raises:
            StoreUnreadable: they cannot be looked at.
        """
        try:
            return self.renew(0, keep_vectors=False)
        except (DeltaError, OSError) as error:
            raise StoreUnreadable(f"the tables cannot be looked at: {error}") from error

    def answer(self, ask: Callable[[View], Answer]) -> Answer:
        """What ``ask`` says of the newest view; once more, of a newer one, if its files are gone.

        Raises:
            StoreUnreadable: they are gone, and there is no newer view.
        """
        view = self.current
        try:
            return ask(view)
        except ViewGone as error:
            newer = self.refresh()
            logger.info("asked again: view %d became %d as %s", view.number, newer.number, error)
            try:
                return ask(newer)
            except ViewGone as again:
                raise StoreUnreadable(f"{again}; the newest view needs them") from again

    def _run(self) -> None:
        rows = FIRST_ROWS
        while not self._stop.is_set():
            try:
                if self._changed():
                    rows = FIRST_ROWS
                elif self.complete:
                    self._stop.wait(POLL_SECONDS)
                    continue
                else:
                    rows = min(
                        2 * rows, MOST_ROWS
                    )  # each view sorts what it adds into the index, so fewer are better
                self.renew(rows)
                self.failure = None
            except Exception as error:
                self._note(error)
                self._stop.wait(POLL_SECONDS)

    def _note(self, error: Exception) -> None:
        self.errors += 1
        text = f"{type(error).__name__}: {error}"
        if text != self.failure:
            logger.warning("%s is not renewed: %s", self._stores.workload.name, text)
        self.failure = text

    def renew(self, rows: int, keep_vectors: bool = True) -> View:
        """Make the next view, with up to about so many more rows in memory."""
        with self._making:
            looked_at = self._stamp()
            old = self.current
            predictions, vectors = self._snapshots(old, keep_vectors)
            memory = self._memory(old, predictions, rows)
            blocks = list(memory.blocks.values())
            same = memory.blocks == old.blocks
            new = View(
                old.number + 1,
                predictions,
                vectors,
                memory.blocks,
                old.index if same else old.index.holding(blocks),
                memory.filters,
                self._live(),
                datetime.now(UTC),
                memory.problems,
            )
            self.complete, self._looked_at = memory.complete, looked_at
            if _equal(old, new) and old.number:
                return old
            self.current = new
            for listener in self._listeners:
                listener(old, new)
        if memory.complete:
            self._filters.forget_others(set(predictions.keys.values()))
        return new

    def _snapshots(self, old: View, keep_vectors: bool) -> "tuple[Predictions, Vectors | None]":
        """The newest versions of both tables that belong together.

        Vectors are published first: those of a day may be of the next scoring, while predictions
        are still of the last. That takes moments, unless a run was killed between the two; then
        the old view's vectors are kept if they fit more of the predictions.
        """
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            predictions = self._predictions(old)
            vectors = self._vectors(old)
            kept = old.vectors if keep_vectors else None
            if kept is None or vectors is None:
                return predictions, vectors
            gain = _fitting(kept, predictions) - _fitting(vectors, predictions)
            if gain <= 0:
                return predictions, vectors
            if time.monotonic() > until:
                return predictions, kept
            self._stop.wait(0.05)

    def _predictions(self, old: View) -> Predictions:
        new = self._stores.warehouse.snapshot(self._stores.workload.predictions)
        return old.predictions if new.files == old.predictions.files else new

    def _vectors(self, old: View) -> "Vectors | None":
        try:
            new = self._stores.vectors.snapshot(self._stores.workload.vectors)
        except VectorStoreError:
            return None
        if old.vectors and old.vectors.dataset.version == new.dataset.version:
            return old.vectors
        return new

    def _memory(self, old: View, predictions: Predictions, rows: int) -> _Memory:
        """Blocks and filters, those of the old view where a day is the same."""
        memory = _Memory()
        room = self._stores.budget.blocks - FILTER_BYTES * predictions.rows()
        kept = {day for day, key in predictions.keys.items() if old.days.get(day) == key}
        a_row = _bytes_a_row(old)
        outside: list[date] = []
        for day, key in sorted(predictions.keys.items(), reverse=True):
            count = predictions.rows([day])
            room -= self._sizes.get((day, key), count * a_row)
            if room < 0 or outside:
                outside.append(day)
            elif day in kept and day in old.blocks:
                memory.blocks[day] = old.blocks[day]
            elif rows <= 0:
                memory.complete = False
            else:
                rows -= count
                made = self._try(memory, predictions, day, self.stored.block)
                if made is not None:
                    room += count * a_row - made.bytes - INDEX_BYTES * made.rows
                    self._sizes[day, key] = made.bytes + INDEX_BYTES * made.rows
                    memory.blocks[day] = made
        most = self._stores.budget.blocks / FILTERS_SHARE
        for day in outside:
            most -= FILTER_BYTES * predictions.rows([day])
            if most < 0:
                break  # what is older is looked for in the store
            filtered = old.filters.get(day) if day in kept else None
            filtered = filtered or self._filters.load(predictions.keys[day])
            if filtered is None and rows > 0:
                rows -= predictions.rows([day])
                filtered = self._try(memory, predictions, day, self._filter)
            if filtered is not None:
                memory.filters[day] = filtered
            elif day not in memory.problems:
                memory.complete = False
        return memory

    def _filter(self, predictions: Predictions, day: date) -> "Bloom":
        made = filter_of(self.stored.hashes(predictions, day))
        self._filters.keep(predictions.keys[day], made)
        return made

    def _try(
        self,
        memory: _Memory,
        predictions: Predictions,
        day: date,
        load: Callable[[Predictions, date], Answer],
    ) -> Answer | None:
        """Load something of a day; one that cannot be read is left to the store, which says so."""
        at = (day, predictions.keys[day])
        failed, why = self._failed_at.get(at, (0.0, ""))
        if why and time.monotonic() - failed < AGAIN_SECONDS:
            memory.problems[day] = why
            return None
        try:
            made = load(predictions, day)
        except ViewGone:
            memory.complete = False  # the next view has other files
        except BatchAssetsError as error:
            logger.warning("%s: %s", day, error)
            self._failed_at[at] = time.monotonic(), str(error)
            memory.problems[day] = str(error)
        else:
            self._failed_at.pop(at, None)
            return made
        return None

    def _live(self) -> str | None:
        model = self._stores.workload.model
        try:
            return self._stores.models.live(model) if model else None
        except BatchAssetsError as error:
            self._note(error)
            return self.current.model_version

    def _changed(self) -> bool:
        return self._stamp() != self._looked_at

    def _stamp(self) -> tuple[object, ...]:
        """Differs when something was published, or may have been."""
        stores = self._stores
        log = f"{stores.warehouse.root}/{stores.workload.predictions.name}/_delta_log"
        versions = f"{stores.vectors.table_uri(stores.workload.vectors)}/_versions"
        again = any(at in self._failed_at for at in self.current.days.items())
        return (
            _changed_at(log),
            _changed_at(versions),
            self._live(),
            time.monotonic() // AGAIN_SECONDS if again else None,
        )


def _changed_at(folder: str) -> object:
    """When a folder last got a file; None if it is not there, and at a store, the time by tens."""
    if "://" in folder:
        return time.monotonic() // REMOTE_SECONDS
    with suppress(OSError):
        changed = Path(folder).stat().st_mtime_ns
        # Clocks of file systems tick slowly: what came in the same tick is not missed.
        return changed, (time.time_ns() - changed) < 1_000_000_000
    return None


def _bytes_a_row(view: View) -> float:
    rows = sum(block.rows for block in view.blocks.values())
    taken = sum(block.bytes for block in view.blocks.values())
    return (taken / rows if rows else GUESSED_BYTES) + INDEX_BYTES


def _fitting(vectors: "Vectors", predictions: Predictions) -> int:
    """Rows of vectors that belong to these predictions."""
    keys: Mapping[date, str] = predictions.keys
    return sum(s.rows for day, s in vectors.days.items() if s.version_key == keys.get(day))


def _equal(old: View, new: View) -> bool:
    return (
        old.predictions is new.predictions
        and old.vectors is new.vectors
        and old.blocks == new.blocks
        and old.filters.keys() == new.filters.keys()
        and old.model_version == new.model_version
        and old.problems == new.problems
    )
