"""Runs one engine: `python -m benchmarks.scoring.worker JOB RESULT`, in the engine's environment.

An engine's module has `run(job)`, which scores and gives the second (since 1970) from which on it
was ready to score: imports done, cluster up, model loaded.
"""

import importlib
import json
import sys
import time
from pathlib import Path

from benchmarks.scoring.job import Job


def main() -> None:
    """Do the job, and write down when it was ready and when done."""
    job = Job.read(Path(sys.argv[1]))
    ready = importlib.import_module(f"benchmarks.scoring.{job.engine}").run(job)
    found = {"ready": ready, "done": time.time()}
    Path(sys.argv[2]).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
