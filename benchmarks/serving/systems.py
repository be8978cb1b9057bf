"""Our server and its peers: how each is filled, started, asked, and how its answers read."""

import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq

from benchmarks.serving.load import Ask
from benchmarks.serving.processes import HOST, REPOSITORY, Server, running
from benchmarks.serving.questions import PREDICTIONS, Questions

PEERS = Path(__file__).with_name("peers")
FEAST_ROWS = 500_000
Answer = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """Where everything is.

    Args:
        folder: for what is kept from run to run.
        peers: interpreter of the environment of the peers.
        core: for servers; load comes from another one.
    """

    home: Path
    folder: Path
    peers: Path
    core: str

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"


@contextmanager
def ours(place: Place, memory: str) -> Iterator[Server]:
    """`batch-assets serve`, with a bound of its memory."""
    port = free_port()
    command = [sys.executable, "-m", "batch_assets", "serve", "--port", port]
    environment = {"BATCH_ASSETS_HOME": str(place.home), "BATCH_ASSETS_SERVING_MEMORY": memory}
    with running(command, port, place.core, place.log("ours"), environment) as server:
        yield server


@contextmanager
def redis_app(place: Place) -> Iterator[Server]:
    """Redis behind a thin FastAPI; both share the core."""
    app, port = PEERS / "redis_app.py", free_port()
    with redis(place, "redis") as store:
        command = [place.peers, app, port, store.socket]
        with running(command, port, place.core, place.log("redis")) as server:
            yield replace(server, beside=(store.server,))


@contextmanager
def lancedb_app(place: Place, probes: int) -> Iterator[Server]:
    """LanceDB behind a thin FastAPI."""
    port = free_port()
    command = [sys.executable, PEERS / "lancedb_app.py", port, place.folder / "lancedb", probes]
    with running(command, port, place.core, place.log("lancedb")) as server:
        yield server


@contextmanager
def feast(place: Place) -> Iterator[Server]:
    """Feast's own feature server over Redis."""
    repository, port = place.folder / "feast", free_port()
    with redis(place, "feast-redis", int((repository / "port").read_text())) as store:
        command = [place.peers.with_name("feast"), "serve", "--no-access-log", "-p", port]
        # By default its worker starts anew after 1,000 requests, and drops what it was asked.
        command += ["--max-requests", "0"]
        with running(command, port, place.core, place.log("feast"), folder=repository) as server:
            yield replace(server, beside=(store.server,))


@dataclass(frozen=True)
class Redis:
    """A Redis that runs."""

    server: Server
    socket: Path


@contextmanager
def redis(place: Place, name: str, port: int | None = None) -> Iterator[Redis]:
    """Debian's redis-server over a file of its own; nothing is written while it runs."""
    folder, port = place.folder / name, port or free_port()
    folder.mkdir(exist_ok=True)
    path = folder / "socket"
    command = ["redis-server", "--port", port, "--bind", HOST, "--unixsocket", path]
    command += ["--dir", folder, "--dbfilename", "rows.rdb", "--save", "", "--appendonly", "no"]
    with running(command, port, place.core, place.log("redis")) as server:
        while b"PONG" not in _redis_cli(path, "ping"):
            if server.process.poll() is not None:
                raise RuntimeError(f"redis-server ended; {place.log('redis')} says why")
        yield Redis(server, path)


def _redis_cli(path: Path, *words: str) -> bytes:
    return subprocess.run(["redis-cli", "-s", path, *words], capture_output=True).stdout


def fill_redis(place: Place) -> None:
    """Each row as JSON under its key, by Redis' own way of mass insertion."""

    def fill(store: Redis) -> None:
        command = ["redis-cli", "-s", str(store.socket), "--pipe"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        ) as insertion:
            assert insertion.stdin is not None
            for command_ in _commands(Questions(place.home).folders):
                insertion.stdin.write(command_)
        if insertion.returncode:
            raise RuntimeError("redis-cli could not insert all rows")

    _fill_redis(place, "redis", fill)


def fill_feast(place: Place) -> None:
    """The newest rows, by Feast's own way."""
    repository = place.folder / "feast"

    def fill(store: Redis) -> None:
        repository.mkdir(exist_ok=True)
        predictions = place.home / "warehouse" / "fraud_predictions"
        address = f"{HOST}:{store.server.port}"
        command = [place.peers, PEERS / "feast_load.py", predictions, repository, address]
        subprocess.run([*map(str, command), str(FEAST_ROWS)], check=True, cwd=repository)
        (repository / "port").write_text(str(store.server.port))

    _fill_redis(place, "feast-redis", fill)


def _fill_redis(place: Place, name: str, fill: Callable[[Redis], None]) -> None:
    if (place.folder / name / "rows.rdb").exists():
        return
    with redis(place, name) as store:
        fill(store)
        _redis_cli(store.socket, "save")


def _commands(folders: Iterable[Path]) -> Iterator[bytes]:
    encode = msgspec.json.Encoder().encode
    for folder in folders:
        for row in pq.read_table(folder, partitioning=None).to_pylist():
            key = row["transaction_id"].encode()
            value = encode({**row, "day": folder.name[4:]})
            yield b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
                len(key),
                key,
                len(value),
                value,
            )


def fill_lancedb(place: Place) -> None:
    """All rows and vectors, indexed."""
    folder = place.folder / "lancedb"
    if folder.exists():
        return
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    vectors = place.home / "vectors" / "transaction_embeddings.lance"
    predictions = place.home / "warehouse" / "fraud_predictions"
    command = [sys.executable, "-m", "benchmarks.serving.peers.lancedb_load"]
    command += [str(predictions), str(vectors), str(unfinished)]
    subprocess.run(command, check=True, cwd=REPOSITORY)
    unfinished.rename(folder)


FEAST_FEATURES = [
    f"predictions:{name}"
    for name in (
        "customer_id terminal_id happened_at amount score model_version scored_at day"
    ).split()
]


def feast_ask(ask: Ask) -> Ask:
    """The same look-up as Feast's feature server wants it."""
    id = ask.path.removeprefix(f"{PREDICTIONS}/")
    body = {"features": FEAST_FEATURES, "entities": {"transaction_id": [id]}}
    return Ask("/get-online-features", json.dumps(body))


def feast_row(answer: Answer) -> Answer:
    """Columns of an answer of Feast."""
    names = answer["metadata"]["feature_names"]
    values = (result["values"][0] for result in answer["results"])
    return dict(zip(names, values, strict=True))


def versions(place: Place) -> dict[str, str]:
    """Of the peers and of wrk; what is not there is left out."""
    code = "import sys, importlib.metadata as m; print(*map(m.version, sys.argv[1:]))"
    names = ("feast", "redis", "hiredis", "fastapi", "uvicorn")
    asked = {"redis-server": ["redis-server", "--version"], "wrk": ["wrk", "-v"]}
    said = {name: _said(command) for name, command in asked.items()}
    of_packages = _said([str(place.peers), "-c", code, *names]).split()
    found = dict(zip(names, of_packages, strict=False))
    for name, text in said.items():
        if match := re.search(r"\d+(\.\d+)+", text):
            found[name] = match.group()
    return found


def _said(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""


def free_port() -> int:
    with socket.socket() as one:
        one.bind((HOST, 0))
        return int(one.getsockname()[1])
