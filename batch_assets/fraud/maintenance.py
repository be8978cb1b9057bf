"""Keeps tables and vectors small and quick; never changes what a reader sees."""

from typing import Any

from batch_assets.fraud.embeddings import EMBEDDINGS
from batch_assets.fraud.scoring import forget_unfinished
from batch_assets.fraud.tables import TABLES
from batch_assets.storage.maintenance import compact, forget_old_versions, remove_leftovers
from batch_assets.storage.vectors import VectorStore
from batch_assets.storage.warehouse import Warehouse


def tidy(warehouse: Warehouse, vectors: VectorStore) -> dict[str, Any]:
    """Merge small files, update indexes, drop old versions.

    Returns:
        What was done, by table.
    """
    done: dict[str, Any] = {}
    for table in TABLES:
        merged = compact(warehouse, table)
        dropped = forget_old_versions(warehouse, table)
        done[table.name] = f"{merged} files merged, {dropped} old files dropped"
    done["leftovers"] = f"{remove_leftovers(warehouse)} folders of killed processes removed"
    given_up = forget_unfinished(warehouse)
    done["unfinished days"] = f"what was kept of {len(given_up)} is removed"
    vectors.ensure(EMBEDDINGS)
    done[EMBEDDINGS.name] = vectors.optimise(EMBEDDINGS)
    return done
