"""One workload at work in this server: its tables, what is in memory of them, and who answers."""

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from batch_assets.errors import BatchAssetsError
from batch_assets.serving.background import stand_back
from batch_assets.serving.budget import Budget
from batch_assets.serving.lookup import Lookups
from batch_assets.serving.neighbours import Neighbours
from batch_assets.serving.redis_tier import RedisTier
from batch_assets.serving.security import FOLDER
from batch_assets.serving.view import View
from batch_assets.serving.views import Views
from batch_assets.serving.workload import Workload
from batch_assets.settings import Settings
from batch_assets.storage.models import ModelStore
from batch_assets.storage.vectors import VectorStore
from batch_assets.storage.warehouse import Warehouse

if TYPE_CHECKING:
    from batch_assets.serving.realtime import RealtimeScorer
    from batch_assets.serving.workload import RealtimeModel

REFRESH_SECONDS = 10.0
log = logging.getLogger(__name__)


def nobody(name: str, value: float) -> None:
    """An observer that does not look."""


class Served:
    """A workload over the data home, with everything that answers for it.

    Args:
        workload: what is served.
        settings: of the data home.
    """

    views: Views
    lookups: Lookups
    shared: RedisTier | None = None
    neighbours: Neighbours
    realtime: "RealtimeScorer | None" = None

    def __init__(self, workload: Workload, settings: Settings) -> None:
        self.workload = workload
        self.settings = settings
        self.warehouse = Warehouse(
            str(settings.home / "warehouse"), settings.memory_limit, settings.threads
        )
        self.budget = Budget(settings.serving_memory_bytes)
        self.vectors = VectorStore(
            str(settings.home / "vectors"), cache_bytes=self.budget.store_cache
        )
        self.models = ModelStore(settings.home / "models")
        self.folder = settings.home / FOLDER
        self.observe: Callable[[str, float], None] = nobody
        self._noted = ""
        self._refreshed, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(
            target=self._follow, name=f"refresh of {workload.name}", daemon=True
        )

    @property
    def view(self) -> View:
        """The newest view; a request takes it once and reads everything from it."""
        return self.views.current

    def start(self) -> None:
        """Read what is to be in memory; afterwards the server is ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.views = Views(self)
        if self.settings.serving_redis:
            self.shared = RedisTier(self.settings.serving_redis, self.workload)
        self.lookups = Lookups(self, self.shared)
        self.neighbours = Neighbours(self)
        self._thread.start()  # what scores in real time is loaded beside the newest days
        self.views.start()
        self._refreshed.wait()

    def memory(self) -> dict[str, int]:
        """Bytes in memory, by what they are for."""
        return {
            "predictions": self.view.bytes,
            "hot rows": self.lookups.hot.bytes,
            "vectors": self.neighbours.memory.bytes,
        }

    def stop(self) -> None:
        """End the threads; what was accepted is finished first."""
        self._stopping.set()
        self._thread.join()
        for part in (self.realtime, self.neighbours, self.views, self.shared):
            if part is not None:
                part.stop()

    def _follow(self) -> None:
        try:
            self._refresh()
        finally:
            self._refreshed.set()
        stand_back()
        while not self._stopping.wait(REFRESH_SECONDS):
            self._refresh()

    def _refresh(self) -> None:
        """Bring up to date what does not follow the tables by itself."""
        try:
            self.workload.refresh()
            if self.realtime is None and self.workload.realtime is not None:
                self.realtime = self._started(self.workload.realtime)
        except BatchAssetsError as error:  # no model is live yet, or a table cannot be read
            text = f"{self.workload.name}: {type(error).__name__}"
            if text != self._noted:
                log.warning("%s at refreshing; tried again", text)
            self._noted = text

    def _started(self, make: "Callable[[], RealtimeModel]") -> "RealtimeScorer":
        from batch_assets.serving.realtime import RealtimeScorer
        from batch_assets.serving.realtime_store import RealtimeStore

        workload = self.workload
        store = RealtimeStore(self.folder, workload.name, workload.predictions, workload.key)
        scorer = RealtimeScorer(workload, make(), store, self.settings.serving_queue, self.observe)
        scorer.start()
        return scorer
