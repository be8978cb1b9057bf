"""What one request, one connection and all of them together may take, and how it ends."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from batch_assets.serving.app import REPORT_THREADS, WAITING
from batch_assets_tests.serving.process import ServerProcess
from batch_assets_tests.serving.small_home import key_of
from batch_assets_tests.serving.strict_server import LIMITS

PROGRAM = ("batch_assets_tests.serving.strict_server",)
SLOW = f"/v1/fraud/predictions/{key_of()}/explanation"


@pytest.fixture(scope="module")
def server(scored_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """With narrow limits."""
    yield from started(scored_home, tmp_path_factory.mktemp("folder"), "strict")


@pytest.fixture
def patient(scored_home: Path, tmp_path: Path) -> Iterator[ServerProcess]:
    """With the usual limits."""
    yield from started(scored_home, tmp_path, "patient")


def started(home: Path, folder: Path, how: str) -> Iterator[ServerProcess]:
    server = ServerProcess(home, (str(folder), how), os.environ, PROGRAM)
    yield server
    (folder / "answer").touch()
    server.kill()


def connect(server: ServerProcess) -> socket.socket:
    where = urlsplit(server.url)
    assert where.hostname
    assert where.port
    return socket.create_connection((where.hostname, where.port), timeout=60)


def said(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    parts = []
    try:
        while part := connection.recv(65_536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def test_what_is_no_http_is_a_problem(server: ServerProcess) -> None:
    with closing(connect(server)) as connection:
        connection.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
        answer = said(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in answer


def test_a_head_that_does_not_come_is_not_waited_for(server: ServerProcess) -> None:
    with closing(connect(server)) as silent, closing(connect(server)) as slow:
        slow.sendall(b"GET /healthz HTTP/1.1\r\nHost: local")
        assert said(silent) == b""
        assert said(slow) == b""
    with closing(connect(server)) as again:  # neither on a connection that was used before
        again.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HT")
        assert said(again).count(b"HTTP/1.1 200 OK") == 1


@pytest.mark.parametrize("line", [b"X: " + b"x" * 1_000 + b"\r\n", b"x" * 1_000])
def test_a_head_without_end_is_refused(server: ServerProcess, line: bytes) -> None:
    with closing(connect(server)) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
        try:
            for _ in range(10_000):
                connection.sendall(line)
        except OSError:
            pass  # it is not read any more
        else:
            pytest.fail("ten megabytes of head were read")


def test_a_body_that_does_not_come_ends_in_time(server: ServerProcess) -> None:
    with closing(connect(server)) as connection:
        connection.sendall(
            b"POST /v1/fraud/predictions:batch HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        )
        assert connection.recv(65_536).startswith(b"HTTP/1.1 504 ")


def test_more_connections_than_allowed_are_told_so(server: ServerProcess) -> None:
    open_ones = [connect(server) for _ in range(LIMITS.connections + 1)]
    answers = []
    for one in open_ones:
        with closing(one):
            one.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answers.append(said(one)[:12])
    assert b"HTTP/1.1 503" in answers
    assert server.client.get("/healthz").status_code == 200


def test_a_slow_answer_is_a_problem_and_a_full_queue_too(server: ServerProcess) -> None:
    first = server.client.get(SLOW)
    assert first.status_code == 504
    assert first.json()["type"].endswith("#problem-timeout")
    results: list[int] = []

    def ask() -> None:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            while True:
                answer = client.get(SLOW)
                results.append(answer.status_code)
                if answer.status_code == 503:
                    assert int(answer.headers["retry-after"]) >= 1
                    return

    threads = [threading.Thread(target=ask) for _ in range(LIMITS.connections - 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(results) == {504, 503}
    assert results.count(504) == REPORT_THREADS + WAITING - 1
    fast = server.client.get(f"/v1/fraud/predictions/{key_of()}")
    assert fast.status_code == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_was_accepted_is_finished(
    patient: ServerProcess, tmp_path: Path, number: signal.Signals
) -> None:
    answers: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: answers.append(patient.client.get(SLOW)))
    asking.start()
    while not (tmp_path / "asked").exists():
        assert asking.is_alive()
    patient.process.send_signal(number)
    while True:
        try:
            connect(patient).close()
        except ConnectionError:
            break
    (tmp_path / "answer").touch()
    asking.join()
    assert answers[0].status_code == 200
    assert answers[0].json()["key"] == key_of()
    assert patient.process.wait(60) == 0
    assert "ERROR" not in patient.log()
