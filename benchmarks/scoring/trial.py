"""One engine, once, in a tree of processes of its own."""

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import in_own_process
from benchmarks.scoring.data import check
from benchmarks.scoring.job import Job
from benchmarks.scoring.memory import Observer

REPOSITORY = Path(__file__).parents[2]
LIMIT_SECONDS = 1800


@dataclass(frozen=True)
class Trial:
    """What one run took: seconds from the moment on that it was ready, and before."""

    rows: int
    startup_seconds: float
    seconds: float
    peak_bytes: int
    bytes_written: int

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds


class TrialError(Exception):
    """An engine did not run, or not right; the message says why, in a line."""


def run_trial(
    folder: Path,
    python: Path,
    engine: str,
    options: Mapping[str, Any],
    *,
    rows: int,
    threads: int,
    checked: bool = True,
) -> Trial:
    """Run an engine over the prepared rows and check what it wrote.

    Raises TrialError when it fails, or when a row is missing, there twice, or wrong.
    """
    with tempfile.TemporaryDirectory(prefix="t", dir=folder) as name:
        place = Path(name)
        for part in ("out", "scratch"):
            (place / part).mkdir()
        job = Job(
            engine=engine,
            source=str(folder / "source"),
            sample=str(folder / "sample"),
            weights=str(folder / "network.pt"),
            target=str(place / "out"),
            scratch=str(place / "scratch"),
            threads=threads,
            options=options,
        )
        job.write(place / "job.json")
        started = time.time()
        with Observer() as observer:
            _run(python, place, observer)
        times = json.loads((place / "times.json").read_text(encoding="utf-8"))
        if checked and (wrong := in_own_process(check, folder, place / "out")):
            raise TrialError(f"its output is wrong: {wrong}")
        files = [path for path in (place / "out").glob("**/*") if path.is_file()]
        return Trial(
            rows=rows,
            startup_seconds=times["ready"] - started,
            seconds=times["done"] - times["ready"],
            peak_bytes=observer.peak_bytes,
            bytes_written=sum(path.stat().st_size for path in files),
        )


def _run(python: Path, place: Path, observer: Observer) -> None:
    """The worker to its end, and the end of all that it started."""
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("BATCH_ASSETS_")},
        "PYTHONPATH": str(REPOSITORY),
        "PATH": f"{python.parent}:{os.environ.get('PATH', '')}",
        # Spark looks up the host's own name otherwise, and starts the first python3 it finds.
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": str(python),
    }
    command = [str(python), "-m", "benchmarks.scoring.worker"]
    files = [str(place / "job.json"), str(place / "times.json")]
    log = place / "log.txt"
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [*command, *files], cwd=REPOSITORY, env=environment, stdout=output, stderr=output
        )
        try:
            process.wait(LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            raise TrialError(f"it took more than {LIMIT_SECONDS} s") from None
        finally:
            # None: it was interrupted, or took too long.
            _end_what_is_left(observer, patience=0 if process.returncode is None else 10)
    if process.returncode:
        raise TrialError(_reason(log) or f"it ended with {process.returncode}")


def _end_what_is_left(observer: Observer, patience: float) -> None:
    """Wait some seconds for the engine's processes to end by themselves, then end them."""
    deadline = time.monotonic() + patience
    while left := observer.processes():
        for pid in left:
            with suppress(ProcessLookupError, ChildProcessError):
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                # Those that were adopted are ours to collect.
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.1)


def _reason(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
