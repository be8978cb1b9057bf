"""Keeps tables, vectors and models small and quick; never changes what a reader sees."""

from typing import Any

from batch_assets.fraud import tables
from batch_assets.fraud.embeddings import EMBEDDINGS
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.fraud.scorer import MODEL
from batch_assets.fraud.scoring import forget_unfinished
from batch_assets.storage.maintenance import compact, forget_old_versions, remove_leftovers
from batch_assets.storage.old_models import remove_old
from batch_assets.storage.warehouse import Warehouse


def tidy(pipeline: Pipeline) -> dict[str, Any]:
    """Merge small files, update indexes, drop old versions of tables, vectors and models.

    Returns:
        What was done, by table.
    """
    warehouse, vectors = pipeline.warehouse, pipeline.vectors
    done: dict[str, Any] = {}
    for table in pipeline.tables:
        merged = compact(warehouse, table)
        dropped = forget_old_versions(warehouse, table)
        done[table.name] = f"{merged} files merged, {dropped} old files dropped"
    done["leftovers"] = f"{remove_leftovers(warehouse)} folders of killed processes removed"
    given_up = forget_unfinished(warehouse)
    done["unfinished days"] = f"what was kept of {len(given_up)} is removed"
    vectors.ensure(EMBEDDINGS, pipeline.settings.vector_type)
    done[EMBEDDINGS.name] = vectors.optimise(
        EMBEDDINGS, vector_index=pipeline.settings.vector_index
    )
    keep, named = pipeline.settings.keep_models, versions_in_use(warehouse)
    removed = remove_old(pipeline.models, MODEL, keep, named)
    done[MODEL] = f"{len(removed)} old versions removed: {', '.join(removed) or 'none'}"
    return done


def versions_in_use(warehouse: Warehouse) -> set[str]:
    """Versions of the model that some stored prediction names."""
    with warehouse.connect() as connection:
        predictions = warehouse.snapshot(tables.FRAUD_PREDICTIONS).relation(connection)
        found = predictions.select("model_version").distinct().fetchall()
    return {version for (version,) in found}
