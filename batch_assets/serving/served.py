"""One workload at work in this server: its tables, what is in memory of them, and who answers."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from batch_assets.serving.budget import Budget
from batch_assets.serving.lookup import Lookups
from batch_assets.serving.redis_tier import RedisTier
from batch_assets.serving.view import View
from batch_assets.serving.views import Views
from batch_assets.serving.workload import Workload
from batch_assets.settings import Settings
from batch_assets.storage.models import ModelStore
from batch_assets.storage.vectors import VectorStore
from batch_assets.storage.warehouse import Warehouse

FOLDER = ".serving"


class Served:
    """A workload over the data home, with everything that answers for it.

    Args:
        workload: what is served.
        settings: of the data home.
    """

    views: Views
    lookups: Lookups
    shared: RedisTier | None = None
    neighbours: Any = None
    realtime: Any = None

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
        self.neighbours = self._part("neighbours", "Neighbours", self)
        self.views.start()

    def memory(self) -> dict[str, int]:
        """Bytes in memory, by what they are for."""
        used = {"predictions": self.view.bytes, "hot rows": self.lookups.hot.bytes}
        if self.neighbours:
            used["vectors"] = self.neighbours.memory.bytes
        return used

    def stop(self) -> None:
        """End the threads; what was accepted is finished first."""
        for part in (self.realtime, self.neighbours, self.views, self.shared):
            if stop := getattr(part, "stop", None):
                stop()

    @staticmethod
    def _part(module: str, name: str, *arguments: Any) -> Any:
        path = f"batch_assets.serving.{module}"
        if find_spec(path) is None:
            return None
        return getattr(import_module(path), name)(*arguments)
