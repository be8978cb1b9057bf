"""The limit of the pool ``gpu``: as many steps at once as there are places on devices."""

from typing import TYPE_CHECKING

from batch_assets.engines.gpu import GPU_POOL
from batch_assets.settings import data_home
from batch_assets.storage.atomic import replace_file

if TYPE_CHECKING:
    from dagster import DagsterInstance


def fit_pool(instance: "DagsterInstance", places: int) -> int:
    """Set the pool's limit to the number of places, unless a person has set another one.

    What is set here is noted beside Dagster's records: a limit that is neither that nor Dagster's
    default is a person's, and stays.

    Returns:
        The limit that holds.
    """
    storage = instance.event_log_storage
    note = data_home() / "dagster" / ".gpu_pool"
    limits = {pool.name: pool for pool in storage.get_pool_limits()}
    pool = limits.get(GPU_POOL)
    ours = note.read_text(encoding="utf-8") if note.exists() else ""
    if pool and not pool.from_default and str(pool.limit) != ours:
        return pool.limit
    replace_file(note, str(places).encode())
    storage.set_concurrency_slots(GPU_POOL, places)
    return places
