"""Data homes that are built up to some step, for the benchmarks of the steps after it."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.deliveries import DAY, Delivery, deliver

if TYPE_CHECKING:
    from batch_assets.fraud.pipeline import Pipeline


def prepare(home: Path, rows: int, how: Delivery, steps: Sequence[str]) -> None:
    """Deliver a day, ingest it and build the named steps; in this process's environment."""
    deliver(home, rows, how)
    pipeline = open_home(home)
    pipeline.ingest("transactions", [DAY])
    build(pipeline, steps)


def open_home(home: Path) -> "Pipeline":
    """The workload over a data home, which becomes that of this process."""
    os.environ["BATCH_ASSETS_HOME"] = str(home)
    from batch_assets.fraud.run import open_pipeline

    pipeline = open_pipeline()
    with pipeline.warehouse.connect():  # imports what it needs, so that no step has to
        return pipeline


def build(pipeline: "Pipeline", steps: Sequence[str]) -> None:
    """Build the day of some steps."""
    from batch_assets.fraud.keys import STEPS

    for name in steps:
        pipeline.build(STEPS[name], [DAY])
