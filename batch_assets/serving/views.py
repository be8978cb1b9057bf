"""Keeps the newest view: looks for changes, loads days into memory, newest first."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from deltalake.exceptions import DeltaError

from batch_assets.errors import BatchAssetsError
from batch_assets.serving import versions
from batch_assets.serving.background import stand_back
from batch_assets.serving.blocks import KeyIndex
from batch_assets.serving.loading import Loader
from batch_assets.serving.stored import StoredDays, StoreUnreadable, ViewGone
from batch_assets.serving.versions import Stores
from batch_assets.serving.view import View
from batch_assets.storage.memory import release_memory
from batch_assets.storage.warehouse import Snapshot as Predictions

logger = logging.getLogger(__name__)
POLL_SECONDS = 1.0
NO_VECTORS_SECONDS = 60.0
"""How often vectors are looked for that were not there, or could not be read."""
FIRST_ROWS = 250_000
"""Rows in memory, in whole days, before the server says that it is ready."""
MOST_ROWS = 1_000_000
"""Rows that one view may have more of than the last."""
Answer = TypeVar("Answer")
Listener = Callable[[View, View], None]


class Views:
    """The views of one workload.

    Args:
        stores: read only; what is kept on disk goes below ``folder``.
    """

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self.stored = StoredDays(stores.workload)
        folder = stores.folder / stores.workload.name
        self._loader = Loader(self.stored, folder, stores.budget.blocks)
        table = stores.workload.predictions
        empty = Predictions(table, f"{stores.warehouse.root}/{table.name}", -1, ())
        index = KeyIndex(stores.workload.key)
        self.current = View(0, empty, None, {}, index, {}, None, datetime.now(UTC))
        self.complete = False
        self.failure: str | None = None
        self.errors = 0
        self._model_problem = ""
        self._listeners: list[Listener] = []
        self._looked_at: tuple[object, ...] | None = None
        self._making = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Make a first view of the newest days; all other days follow in the background."""
        release_memory()  # so that what loading frees goes back from the beginning
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
        stand_back()
        rows = FIRST_ROWS
        while not self._stop.is_set():
            try:
                if self._stamp() != self._looked_at:
                    rows = FIRST_ROWS
                elif self.complete:
                    self._stop.wait(POLL_SECONDS)
                    continue
                else:
                    # Each view sorts what it adds into the index: a few large ones are better.
                    rows = min(2 * rows, MOST_ROWS)
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
        """Make the next view, with about so many more rows in memory; gives the newest.

        Args:
            keep_vectors: prefer the old view's vectors while newer ones fit fewer predictions.
        """
        with self._making:
            old, looked_at = self.current, self._stamp()
            predictions, vectors = versions.newest(self._stores, old, keep_vectors, self._stop.wait)
            memory = self._loader.next(old, predictions, rows)
            same = memory.blocks == old.blocks
            new = View(
                number=old.number + 1,
                predictions=predictions,
                vectors=vectors,
                blocks=memory.blocks,
                index=old.index if same else old.index.holding([*memory.blocks.values()]),
                filters=memory.filters,
                model_version=self._live(),
                made_at=datetime.now(UTC),
                problems=memory.problems,
            )
            self.complete, self._looked_at = memory.complete, looked_at
            if old.number and _equal(old, new):
                return old
            self.current = new
            for listener in self._listeners:
                listener(old, new)
            if memory.complete:
                self._loader.tidy(predictions)
            release_memory()
            return new

    def _live(self) -> str | None:
        model = self._stores.workload.model
        try:
            return self._stores.models.live(model) if model else None
        except BatchAssetsError as error:
            if str(error) != self._model_problem:
                self._model_problem = str(error)
                logger.warning("the live model is taken to be what it was: %s", error)
            return self.current.model_version

    def _stamp(self) -> tuple[object, ...]:
        """Differs when there may be something new to look at."""
        again, now = self._loader.next_try(), time.monotonic()
        return (
            *versions.stamp(self._stores),
            self._live(),
            again is not None and again < now,
            now // NO_VECTORS_SECONDS if self.current.vectors is None else None,
        )


def _equal(old: View, new: View) -> bool:
    return (
        old.predictions is new.predictions
        and old.vectors is new.vectors
        and old.blocks == new.blocks
        and old.filters.keys() == new.filters.keys()
        and old.model_version == new.model_version
        and old.problems == new.problems
    )
