"""One workload at work in this server: its tables, what is in memory of them, and who answers."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

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

    views: Any = None
    lookups: Any = None
    neighbours: Any = None
    realtime: Any = None

    def __init__(self, workload: Workload, settings: Settings) -> None:
        self.workload = workload
        self.settings = settings
        self.warehouse = Warehouse(
            str(settings.home / "warehouse"), settings.memory_limit, settings.threads
        )
        self.vectors = VectorStore(str(settings.home / "vectors"))
        self.models = ModelStore(settings.home / "models")
        self.folder = settings.home / FOLDER
        self.budget = self._part("budget", "Budget", settings.serving_memory_bytes)

    @property
    def view(self) -> Any:
        """The newest view; a request takes it once and reads everything from it."""
        return self.views.current

    def start(self) -> None:
        """Read what is to be in memory; afterwards the server is ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.views = self._part("views", "Views", self)
        self.lookups = self._part("lookup", "Lookups", self)
        self.neighbours = self._part("neighbours", "Neighbours", self)
        if self.views:
            self.views.start()

    def stop(self) -> None:
        """End the threads; what was accepted is finished first."""
        for part in (self.realtime, self.neighbours, self.views):
            if hasattr(part, "stop"):
                part.stop()

    @staticmethod
    def _part(module: str, name: str, *arguments: Any) -> Any:
        path = f"batch_assets.serving.{module}"
        if find_spec(path) is None:
            return None
        return getattr(import_module(path), name)(*arguments)
