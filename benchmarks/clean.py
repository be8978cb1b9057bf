"""From the raw table to clean, quarantined and duplicate rows: one day of a million records."""

import shutil
import tempfile
from pathlib import Path

from benchmarks.deliveries import Delivery
from benchmarks.harness import Result, Watch, Work, in_own_process, measure
from benchmarks.steps import build, open_home, prepare

ROWS = 1_000_000
STEPS = ("clean_transactions", "fraud_labels", "daily_totals")


def main() -> Result:
    """Measure cleaning, and the labels and totals that follow."""
    with tempfile.TemporaryDirectory(prefix="clean-") as folder:
        home = Path(folder)
        in_own_process(prepare, home, ROWS, Delivery("parquet", repeated=0.01), ["exchange_rates"])
        return {step: measure(build_again, home, step) for step in STEPS}


def build_again(home: Path, step: str) -> Work:
    """Build one step of the day anew."""
    from batch_assets.fraud.keys import STEPS as ALL

    pipeline = open_home(home)
    for table in ALL[step].tables:
        shutil.rmtree(home / "warehouse" / table.name, ignore_errors=True)
    watch = Watch()
    build(pipeline, [step])
    seconds = watch.seconds
    rows = {t.name: pipeline.warehouse.snapshot(t).rows() for t in ALL[step].tables}
    return Work(ROWS, seconds, {f"rows of {name}": count for name, count in rows.items()})
