"""What an engine is asked to do, and what it tells; needs the standard library only."""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple


class Times(NamedTuple):
    """When (seconds since 1970) an engine was ready to score, and when all was written."""

    ready: float
    done: float


@dataclass(frozen=True)
class Job:
    """Score the Parquet files of a folder into a folder of Parquet files.

    Args:
        sample: a few rows in as many files as there are threads, to start workers with.
        scratch: an empty folder for whatever the engine leaves behind.
        threads: cores to use.
        options: the engine's settings.
    """

    engine: str
    source: str
    sample: str
    weights: str
    target: str
    scratch: str
    threads: int
    options: Mapping[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Keep it for the process that does it."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Job":
        """The job that was written."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    def files(self) -> list[str]:
        """The files to score, in order."""
        return sorted(str(path) for path in Path(self.source).glob("*.parquet"))


def mark_ready(scratch: str) -> None:
    """A worker says that its model is loaded."""
    folder = Path(scratch, "ready")
    folder.mkdir(exist_ok=True)
    (folder / f"{os.getpid()}-{time.time_ns()}").touch()


def last_ready(scratch: str) -> float:
    """When (seconds since 1970) the last worker had loaded its model."""
    return max(int(path.name.split("-")[1]) for path in Path(scratch, "ready").iterdir()) / 1e9
