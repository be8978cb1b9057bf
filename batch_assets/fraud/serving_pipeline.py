"""The workload as a server opens it: it only reads, and does without Dagster."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch_assets.fraud.pipeline import Pipeline
from batch_assets.serving.security import FOLDER
from batch_assets.settings import Settings
from batch_assets.storage.models import ModelStore
from batch_assets.storage.vectors import VectorStore
from batch_assets.storage.warehouse import Warehouse

if TYPE_CHECKING:
    import duckdb


class ReadWarehouse(Warehouse):
    """A warehouse whose connections do without Dagster, whose import takes more than a second."""

    @property
    def scratch(self) -> Path:
        """The server's own folder: it never writes where the pipeline does."""
        return Path(self.root).parent / FOLDER / "scratch"

    def _opened(
        self, config: dict[str, Any]
    ) -> "AbstractContextManager[duckdb.DuckDBPyConnection]":
        import duckdb

        return duckdb.connect(":memory:", config=config)


def serving_pipeline(settings: Settings) -> Pipeline:
    """The workload over a data home, read only."""
    home = settings.home
    return Pipeline(
        settings,
        ReadWarehouse(str(home / "warehouse"), settings.memory_limit, settings.threads),
        VectorStore(str(home / "vectors")),
        ModelStore(home / "models"),
        ("cpu",),
    )
