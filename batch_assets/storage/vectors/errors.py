"""Errors of the vector store; the package's only tie to the rest of the project."""

from batch_assets.errors import BatchAssetsError


class VectorStoreError(BatchAssetsError):
    """A vector table, a batch of vectors or a search that cannot be used as given."""
