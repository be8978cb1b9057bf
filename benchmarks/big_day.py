"""One day of ten million rows through `batch-assets run`: peak memory and seconds of each step.

Not part of `make bench`: it takes minutes, and some 10 GB of disk. Run it with
`python -m benchmarks.big_day`, in a smaller size with `--rows 1_000_000`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.deliveries import DAY, Delivery, deliver
from benchmarks.harness import Result, data_home, in_own_process, write
from benchmarks.memory import Sampler

ROWS = 10_000_000
FORMATS = ("parquet", "csv.gz", "csv", "jsonl")
CUSTOMERS, TERMINALS = 500_000, 50_000


def main() -> None:
    """Make the day in each format, run it, and write down what it took."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.big_day", description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--files", type=int, default=1, help="in how many files the day comes")
    parser.add_argument("--format", choices=FORMATS, nargs="+", default=FORMATS[:2])
    options = parser.parse_args()
    results = {name: run_day(options.rows, name, options.files) for name in options.format}
    if options.rows == ROWS:
        write("big_day", (__doc__ or "").splitlines()[0], results, "benchmarks.big_day")
    print(json.dumps(results, indent=2))


def run_day(rows: int, ending: str, files: int = 1, home: Path | None = None) -> Result:
    """Peak resident bytes and seconds of a day with so many rows, in all and of each step.

    Args:
        home: where to work, instead of a folder that is removed afterwards.
    """
    with tempfile.TemporaryDirectory(prefix="big-day-") as folder:
        home = home or Path(folder)
        how = Delivery(ending, files=files, customers=CUSTOMERS, terminals=TERMINALS)
        in_own_process(deliver, home, rows, how)
        with data_home(home):
            return _watched(home, rows)


def _watched(home: Path, rows: int) -> Result:
    """Run the day as a person would, and watch the process."""
    call = "from batch_assets.cli import main; main()"
    command = [sys.executable, "-c", call, "run", "--from", str(DAY), "--to", str(DAY), "--json"]
    environment = {**os.environ, "BATCH_ASSETS_DEVICE": "cpu"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    with Sampler(process.pid) as sampler:
        output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"batch-assets run ended with {process.returncode}")
    summary = json.loads(output)
    if (summary["clean"], summary["scored"]) != (rows, rows):
        raise RuntimeError(
            f"of {rows} rows {summary['clean']} are clean, {summary['scored']} scored"
        )
    seconds = sampler.samples[-1].at - sampler.samples[0].at
    whole = {
        "rows": rows,
        "seconds": round(seconds, 1),
        "rows_a_second": round(rows / seconds),
        "peak_rss_bytes": sampler.peak,
    }
    return {"all": whole, **_steps(home, summary["runs"], sampler)}


def _steps(home: Path, runs: list[str], sampler: Sampler) -> Result:
    """Seconds and peak of each step, in the order in which they ran, as Dagster recorded them."""
    from batch_assets.instance import dagster_instance

    with dagster_instance() as instance:
        found = [
            (stats.start_time, stats.end_time, stats.step_key)
            for run in runs
            for stats in instance.get_run_step_stats(run)
            if stats.start_time is not None and stats.end_time is not None
        ]
    steps: Result = {}
    for start, end, name in sorted(found):
        if peak := sampler.peak_between(start, end):  # none of a step between two samples
            steps[name] = {"seconds": round(end - start, 1), "peak_rss_bytes": peak}
    return steps


if __name__ == "__main__":
    main()
