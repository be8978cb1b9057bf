"""The stores as Dagster resources. All are local folders by default."""

from dagster import ConfigurableResource
from pydantic import Field

from batch_assets.storage.models import ModelStore
from batch_assets.storage.warehouse import Warehouse


class WarehouseResource(ConfigurableResource):  # type: ignore[type-arg]
    """Delta tables, with DuckDB on top.

    Example:
        >>> WarehouseResource(root="data/warehouse").open().snapshot(table).rows()
    """

    root: str = Field(description="Folder or URI of the tables.")
    memory_limit: str = Field("1GB", description="What DuckDB may use before it spills.")
    threads: int = Field(2, description="DuckDB threads.")

    def open(self) -> Warehouse:
        """The warehouse itself."""
        return Warehouse(self.root, self.memory_limit, self.threads)


class ModelStoreResource(ConfigurableResource):  # type: ignore[type-arg]
    """Versioned models: safetensors and a JSON card each."""

    root: str = Field(description="Folder or URI of the models.")

    def open(self) -> ModelStore:
        """The model store itself."""
        return ModelStore(self.root)
