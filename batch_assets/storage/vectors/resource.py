"""LanceDB as a Dagster resource."""

from typing import TYPE_CHECKING

from dagster import ConfigurableResource
from pydantic import Field, PrivateAttr

from batch_assets.storage.vectors.store import CACHE_BYTES, VectorStore

if TYPE_CHECKING:
    import lancedb


class LanceDBResource(ConfigurableResource):  # type: ignore[type-arg]
    """A LanceDB database for assets that store or search vectors.

    `store()` gives a `VectorStore`, which replaces a day of a table in one commit and stays
    exact when runs race; `connect()` gives LanceDB's own connection to the same tables.

    Example:
        >>> import dagster as dg
        >>> documents = ...                             # a VectorTable
        >>> @dg.asset(partitions_def=dg.DailyPartitionsDefinition("2026-01-01"))
        ... def document_embeddings(context: dg.AssetExecutionContext, vectors: LanceDBResource):
        ...     day = context.partition_time_window.start.date()
        ...     written = vectors.store().replace_day(documents, day, embed(day))
        ...     return dg.MaterializeResult(metadata={"rows": written.rows})
        >>> defs = dg.Definitions(
        ...     assets=[document_embeddings],
        ...     resources={"vectors": LanceDBResource(uri="data/vectors")},
        ... )
    """

    uri: str = Field(description="A folder, or an object store's address (s3://bucket/vectors).")
    storage_options: dict[str, str] = Field(
        default_factory=dict,
        description="What the object store needs, as in lancedb.connect; empty for a folder.",
    )
    cache_bytes: int = Field(
        default=CACHE_BYTES, gt=0, description="Bound for indexes kept in memory, in bytes."
    )

    _store: VectorStore | None = PrivateAttr(default=None)

    def store(self) -> VectorStore:
        """The store at this address; one for the life of the resource, for its caches."""
        if self._store is None:
            self._store = VectorStore(
                self.uri,
                storage_options=self.storage_options or None,
                cache_bytes=self.cache_bytes,
            )
        return self._store

    def connect(self) -> "lancedb.DBConnection":
        """LanceDB's own connection, for what `VectorStore` does not offer."""
        import lancedb

        return lancedb.connect(self.uri, storage_options=self.storage_options or None)
