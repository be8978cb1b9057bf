"""Dagster's own records, in the data home, so that command line and UI show the same runs."""

import logging
import os
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from batch_assets.errors import BatchAssetsError
from batch_assets.run_records import close_kept_files, write_without_waiting
from batch_assets.running import bury_dead_runs, this_process_runs
from batch_assets.settings import data_home

if TYPE_CHECKING:
    from dagster import DagsterInstance

INSTANCE_FILE = "dagster.yaml"


class RunFailedError(BatchAssetsError):
    """A Dagster run did not succeed; its log says more."""


def prepare_dagster_home() -> Path:
    """Create ``$BATCH_ASSETS_HOME/dagster`` with our defaults, and make it DAGSTER_HOME."""
    home = data_home() / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    config = home / INSTANCE_FILE
    if not config.exists():
        ours = files("batch_assets").joinpath(INSTANCE_FILE).read_text(encoding="utf-8")
        partial = config.with_suffix(f".{os.getpid()}")
        partial.write_text(ours, encoding="utf-8")
        os.replace(partial, config)
    os.environ["DAGSTER_HOME"] = str(home)
    return home


@contextmanager
def dagster_instance() -> "Iterator[DagsterInstance]":
    """The instance of this data home."""
    home = prepare_dagster_home()
    from dagster import DagsterError, DagsterInstance

    write_without_waiting()
    logging.getLogger("dagster").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with FileLock(home / ".opening"):  # two that create the same database trip each other
                instance = DagsterInstance.get()
        except DagsterError as error:
            raise BatchAssetsError(f"{home / INSTANCE_FILE}: {error}") from error
        try:
            with instance:
                bury_dead_runs(instance)
                yield instance
        finally:
            close_kept_files()


def run_job(
    name: str,
    instance: "DagsterInstance",
    days: tuple[date, date] | None = None,
    config: Mapping[str, Any] | None = None,
) -> str:
    """Run a job in this process, recorded like any other run.

    Args:
        days: first and last partition, for a job that has partitions.
        config: config by op name.

    Returns:
        Run id.

    Raises:
        RunFailedError: with what went wrong in the step that failed.
        KeyboardInterrupt: the run was interrupted (SIGINT or SIGTERM).
    """
    from batch_assets.definitions import defs
    from batch_assets.fraud.run_requests import range_tags

    ops = {op: {"config": dict(values)} for op, values in (config or {}).items()}
    run_id = str(uuid.uuid4())
    this_process_runs(run_id)
    result = defs.resolve_job_def(name).execute_in_process(
        instance=instance,
        run_id=run_id,
        tags={**(range_tags(*days) if days else {}), "batch_assets/started_by": "command line"},
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}, "ops": ops},
        raise_on_error=False,
    )
    if not result.success:
        failed, error = _what_failed(result)
        if error and error.cls_name == "DagsterExecutionInterruptedError":
            raise KeyboardInterrupt
        why = error.message.strip() if error else "its log says more"
        raise RunFailedError(f"{failed} failed: {why} (run {run_id}, see it in the UI)")
    return run_id


def _what_failed(result: Any) -> tuple[str, Any]:
    """The step that failed, or the run, and the first cause."""
    for event in result.all_events:
        error = None
        if event.is_step_failure:
            error = event.step_failure_data.error
        elif event.is_job_failure:
            error = event.job_failure_data.error
        if error:
            while error.cause:
                error = error.cause
            return event.step_key or "the run", error
    return "the run", None
