"""Which versions of the two tables belong together, and whether there are newer ones."""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from batch_assets.serving.budget import Budget
from batch_assets.serving.view import View
from batch_assets.serving.workload import Workload
from batch_assets.storage.models import ModelStore
from batch_assets.storage.vectors import VectorStore, VectorStoreError
from batch_assets.storage.warehouse import Snapshot as Predictions
from batch_assets.storage.warehouse import Warehouse

if TYPE_CHECKING:
    from batch_assets.storage.vectors.search import Snapshot as Vectors

logger = logging.getLogger(__name__)
PATIENCE_SECONDS = 1.0
"""How long a view waits for the predictions of vectors that have been published already."""
LOOK_SECONDS = 0.05
REMOTE_SECONDS = 10.0
"""How often a store that is no folder is looked at."""
TICK_NS = 1_000_000_000
"""Files that come this soon after another one may leave the time of their folder as it is."""


class Stores(Protocol):
    """Where a workload's results are, and how much of them may be in memory."""

    @property
    def workload(self) -> Workload: ...

    @property
    def warehouse(self) -> Warehouse: ...

    @property
    def vectors(self) -> VectorStore: ...

    @property
    def models(self) -> ModelStore: ...

    @property
    def folder(self) -> Path: ...

    @property
    def budget(self) -> Budget: ...


def newest(
    stores: Stores, old: View, keep_vectors: bool, wait: Callable[[float], object]
) -> "tuple[Predictions, Vectors | None]":
    """The newest versions of both tables; the old view's objects, where they are the same.

    Vectors are published first: those of a day may be of the next scoring, while predictions are
    still of the last. That takes moments, unless a run was killed between the two; then the old
    view's vectors stay if they fit more of the predictions.
    """
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        predictions = _predictions(stores, old)
        vectors = _vectors(stores, old)
        if not keep_vectors or vectors is None or old.vectors is None:
            return predictions, vectors
        kept = old.vectors
        if all(vectors.holds(*at) for at in predictions.keys.items() if kept.holds(*at)):
            return predictions, vectors
        if time.monotonic() > until:
            return predictions, max(vectors, kept, key=lambda one: _fitting(one, predictions))
        wait(LOOK_SECONDS)


def stamp(stores: Stores) -> tuple[object, ...]:
    """Differs from an earlier one if something was published since, or may have been."""
    log = f"{stores.warehouse.root}/{stores.workload.predictions.name}/_delta_log"
    versions = f"{stores.vectors.table_uri(stores.workload.vectors)}/_versions"
    return _changed_at(log), _changed_at(versions)


def _changed_at(folder: str) -> object:
    """When a folder last got a file; None if it is not there, and at a store, the time by tens."""
    if "://" in folder:
        return time.monotonic() // REMOTE_SECONDS
    with suppress(OSError):
        changed = Path(folder).stat().st_mtime_ns
        return changed, time.time_ns() - changed < TICK_NS
    return None


def _predictions(stores: Stores, old: View) -> Predictions:
    new = stores.warehouse.snapshot(stores.workload.predictions)
    return old.predictions if new.files == old.predictions.files else new


def _vectors(stores: Stores, old: View) -> "Vectors | None":
    try:
        new = stores.vectors.snapshot(stores.workload.vectors)
    except VectorStoreError:
        return None
    except (OSError, ValueError, RuntimeError) as error:
        logger.warning("vectors are left as they were: %s", error)
        return old.vectors
    return old.vectors if old.vectors and _named(old.vectors) == _named(new) else new


def _named(vectors: "Vectors") -> tuple[object, ...]:
    """What tells one version from all others, also from one of a table that was there before."""
    return vectors.dataset.version, *(one.identity for one in vectors.fragments)


def _fitting(vectors: "Vectors", predictions: Predictions) -> int:
    """Rows of vectors that belong to these predictions."""
    keys = predictions.keys
    return sum(s.rows for day, s in vectors.days.items() if s.version_key == keys.get(day))
