"""A real server in a process of its own."""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx


class ServerProcess:
    """``batch-assets serve`` on any free port; made when it answers.

    Args:
        home: its data home.
        arguments: further ones of the command.
        variables: its environment.
        program: another module than the command line's.
    """

    def __init__(
        self,
        home: Path,
        arguments: Sequence[str],
        variables: Mapping[str, str],
        program: Sequence[str] = ("batch_assets", "serve", "--port", "0"),
    ) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", *program, *arguments],
            env={**variables, "BATCH_ASSETS_HOME": str(home)},
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        assert self.process.stdout
        said = self.process.stdout.readline()
        assert said.startswith("listening on http://"), said + self.log()
        self.url = said.split()[-1]
        self.client = httpx.Client(base_url=self.url, timeout=60)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end; gives its exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()
        self.client.close()

    def log(self) -> str:
        """What it wrote to stderr by now."""
        self._log.seek(0)
        return self._log.read()
