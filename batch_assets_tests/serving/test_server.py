"""A real server process: how it starts, what it refuses, how it ends, what it writes."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from batch_assets_tests.fraud.zone import START
from batch_assets_tests.serving.process import ServerProcess
from batch_assets_tests.serving.small_home import key_of, rows_of_day

Start = Callable[..., ServerProcess]


def command(home: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "batch_assets", *words],
        env={**os.environ, "BATCH_ASSETS_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_answers_and_ends_well(scored_home: Path, start_server: Start) -> None:
    server = start_server(scored_home)
    found = server.client.get(f"/v1/fraud/predictions/{key_of()}").json()
    assert found["transaction_id"] == key_of()
    assert server.stop() == 0
    assert "Traceback" not in server.log()


def test_a_home_without_predictions_is_served_and_says_so(
    tmp_path: Path, start_server: Start
) -> None:
    server = start_server(tmp_path)
    ready = server.client.get("/readyz")
    assert ready.json()["status"] == "empty"
    assert "batch-assets run" in ready.json()["notes"][0]
    assert server.client.get("/v1/fraud/predictions/x").status_code == 404
    assert server.client.get("/v1/fraud/alerts").status_code == 404
    assert server.client.get("/v1/freshness").json()["stale"] is True
    assert server.client.get("/metrics").status_code == 200


def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = command(tmp_path, "serve", "--port", str(port))
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr


def test_others_are_not_served_without_keys(tmp_path: Path) -> None:
    done = command(tmp_path, "serve", "--host", "0.0.0.0", "--port", "0")
    assert done.returncode == 1
    assert "batch-assets keys create" in done.stderr


def test_it_does_without_dagster(scored_home: Path) -> None:
    code = (
        "import sys, threading, batch_assets.serve_commands as c, batch_assets.serving.server as s;"
        "s.uvicorn.Server.main_loop = lambda self: __import__('asyncio').sleep(0);"
        "c.serve(port=0); print([m for m in sys.modules if m.startswith('dagster')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "BATCH_ASSETS_HOME": str(scored_home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr


def test_no_id_gets_into_a_log(scored_home: Path, start_server: Start) -> None:
    server = start_server(scored_home)
    rows = list(rows_of_day(START))
    asks = [
        ("GET", f"/v1/fraud/predictions/{rows[0][0]}", None),
        ("GET", f"/v1/fraud/predictions/{rows[0][0]}/explanation", None),
        ("GET", "/v1/fraud/predictions/unknown-4711", None),
        ("GET", f"/v1/fraud/customers/{rows[0][1]}?before_id=unknown-4711", None),
        ("GET", "/v1/fraud/customers/unknown-4711", None),
        ("GET", "/unknown-4711", None),
        ("POST", "/v1/fraud/similar", {"transaction_id": rows[1][0]}),
        ("POST", "/v1/fraud/similar", {"transaction_id": "unknown-4711", "vector": "x"}),
        ("POST", "/v1/fraud/predictions:batch", {"ids": [row[0] for row in rows]}),
        ("GET", "/v1/fraud/alerts", None),
    ]
    for method, path, body in asks:
        server.client.request(method, path, json=body)
    assert server.stop() == 0
    log = server.log()
    assert "GET /v1/fraud/predictions/{id} 200" in log
    for secret in ("unknown-4711", "t-2026", *{row[1] for row in rows}):
        assert secret not in log
