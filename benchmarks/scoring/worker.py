"""Runs one engine: `python -m benchmarks.scoring.worker JOB RESULT`, in the engine's environment.

An engine's module has `run(job)`, which scores and tells when it was ready to (imports done,
cluster up, model loaded) and when all was written. What it does afterwards costs it nothing.
"""

import importlib
import json
import sys
from pathlib import Path

from benchmarks.scoring.job import Job


def main() -> None:
    """Do the job, and write down the times."""
    job = Job.read(Path(sys.argv[1]))
    times = importlib.import_module(f"benchmarks.scoring.{job.engine}").run(job)
    Path(sys.argv[2]).write_text(json.dumps(times._asdict()), encoding="utf-8")


if __name__ == "__main__":
    main()
