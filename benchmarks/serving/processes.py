"""Servers as processes of their own, on a core of their own."""

import http.client
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import Watch
from benchmarks.serving.load import Ask

REPOSITORY = Path(__file__).parents[2]
LIMIT_SECONDS = 300.0
HOST = "127.0.0.1"


class ServerError(Exception):
    """A server did not start, or answers wrongly; the message says why, in a line."""


@dataclass(frozen=True)
class Server:
    """A server that runs.

    Args:
        beside: what it needs to answer.
    """

    port: int
    process: "subprocess.Popen[bytes]"
    started: Watch
    beside: "tuple[Server, ...]" = ()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def ask(self, ask: Ask) -> tuple[int, Any]:
        """Status and JSON of an answer; 0 where nobody answers."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=60)
        try:
            headers = {"Content-Type": "application/json"} if ask.body else {}
            method = "POST" if ask.body else "GET"
            connection.request(method, ask.path, ask.body or None, headers)
            answer = connection.getresponse()
            content = answer.read()
        except OSError:
            return 0, None
        finally:
            connection.close()
        is_json = "json" in (answer.getheader("Content-Type") or "")
        return answer.status, json.loads(content) if is_json and content else content

    def wait_for(self, ask: Ask) -> float:
        """Seconds from the start until this is answered with 200."""
        while self.ask(ask)[0] != 200:
            if self.process.poll() is not None:
                raise ServerError(f"it ended with {self.process.returncode}")
            if self.started.seconds > LIMIT_SECONDS:
                raise ServerError(f"it was not ready after {LIMIT_SECONDS:.0f} s")
            time.sleep(0.02)
        return self.started.seconds

    def memory(self) -> dict[str, int]:
        """Bytes resident in memory now, in all and of files, over all its processes."""
        found = {"resident_bytes": 0, "of_files_bytes": 0}
        for pid in self._processes():
            status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
            lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
            for name, line in (("resident_bytes", "VmRSS"), ("of_files_bytes", "RssFile")):
                found[name] += int(lines.get(line, "0 kB").split()[0]) * 1024
        return found

    def _processes(self) -> list[int]:
        own = _family(self.process.pid)
        return [*own, *(pid for other in self.beside for pid in other._processes())]


@contextmanager
def running(
    command: Sequence[object],
    port: int,
    cores: str,
    log: Path,
    environment: Mapping[str, str] | None = None,
    folder: Path = REPOSITORY,
) -> Iterator[Server]:
    """A server, ended afterwards with all that it started.

    Args:
        cores: where it may run, as taskset names them.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith("BATCH_ASSETS_")}
    variables = {**kept, "PYTHONPATH": str(REPOSITORY), **(environment or {})}
    pinned = ["taskset", "-c", cores, *map(str, command)]
    with log.open("ab") as output:
        process = subprocess.Popen(
            pinned,
            stdout=output,
            stderr=output,
            env=variables,
            cwd=folder,
            start_new_session=True,
        )
    try:
        yield Server(port, process, Watch())
    finally:
        _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, how)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                continue


def _family(pid: int) -> list[int]:
    """A process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(int(one) for one in children)]


def forget_pages(folder: Path) -> None:
    """Let the system forget what it has in memory of a folder's files."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fdatasync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)
