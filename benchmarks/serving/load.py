"""Load by wrk, at a constant rate or as much as can be answered."""

import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("load.lua")
CONNECTIONS = 32


@dataclass(frozen=True)
class Ask:
    """One request.

    Args:
        body: JSON; empty for none.
    """

    path: str
    body: str = ""

    @property
    def line(self) -> str:
        return f"{'POST' if self.body else 'GET'}\t{self.path}\t{self.body}\n"


def write_asks(path: Path, asks: Iterable[Ask]) -> Path:
    """Keep requests for wrk."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(ask.line for ask in asks)
    return path


@dataclass(frozen=True)
class Load:
    """What is asked for.

    Args:
        asks: file of requests.
        rate: requests a second; 0 for as many as can be answered.
        seconds: how long.
        first: line to begin with.
        core: where wrk runs.
    """

    asks: Path
    rate: int
    seconds: int
    core: int
    first: int = 0
    connections: int = CONNECTIONS

    def run(self, url: str) -> dict[str, Any]:
        """What wrk measured; latencies in milliseconds.

        A request's time is from its first byte sent to the last one received. Wrk itself puts
        what a connection that waits could have sent meanwhile beside it ("coordinated omission").
        """
        command = ["taskset", "-c", str(self.core), "wrk", "-t1", f"-c{self.connections}"]
        command += [f"-d{self.seconds}s", "--timeout", "5s", "-s", str(SCRIPT), url, "--"]
        command += [str(self.asks), str(self.rate), str(self.first)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found: dict[str, Any] = json.loads(output.splitlines()[-1])
        took = found.pop("microseconds") / 1e6
        latencies = {f"{name}_ms": found.pop(name) / 1e3 for name in ("p50", "p90", "p99", "p999")}
        return {
            "rate": round(found["requests"] / took, 1),
            **latencies,
            "most_ms": found.pop("most") / 1e3,
            "late_ms": round(found.pop("late") * 1e3, 1),
            **found,
        }
