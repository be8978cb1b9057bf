"""Tells runs that are going on from runs whose process is gone.

Dagster learns of the end of a run from the run itself. One whose process was killed, or whose
machine went down, would be "started" for ever, would keep its place in the ``gpu`` pool, and
whoever waits for it would wait for ever. So each process holds a file lock for each of its runs;
the system frees a lock when the process ends, in whatever way.
"""

import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING

from batch_assets.settings import data_home

if TYPE_CHECKING:
    from dagster import DagsterInstance

_held: dict[str, int] = {}


def _folder() -> Path:
    return data_home() / "dagster" / "running"


def this_process_runs(run_id: str) -> None:
    """Hold the run's lock until this process ends."""
    if run_id in _held:
        return
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".{run_id}.{os.getpid()}"
    lock = os.open(path, os.O_CREAT | os.O_RDWR)  # not inherited by programs started from here
    fcntl.flock(lock, fcntl.LOCK_EX)
    path.rename(folder / run_id)  # appears locked, so that nobody takes it for one of the dead
    _held[run_id] = lock


def bury_dead_runs(instance: "DagsterInstance") -> list[str]:
    """Record that runs without a process have failed, and free what they held.

    Returns:
        Their run ids.
    """
    buried = []
    for path in sorted(_folder().glob("[!.]*")):
        if path.name in _held or _is_locked(path):
            continue
        run = instance.get_run_by_id(path.name)
        if run and not run.is_finished:
            instance.report_run_failed(
                run, "The process of this run ended without a word. What it committed stays."
            )
            buried.append(run.run_id)
        if run and instance.event_log_storage.supports_global_concurrency_limits:
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        path.unlink(missing_ok=True)
    return buried


def _is_locked(path: Path) -> bool:
    try:
        lock = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return True  # another process has just dealt with it
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False
