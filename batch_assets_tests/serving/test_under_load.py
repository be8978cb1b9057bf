"""While many ask: days are materialised again, and the server is killed."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from batch_assets.fraud.pipeline import Pipeline
from batch_assets_tests.fraud.zone import put_any_model_live
from batch_assets_tests.serving.process import ServerProcess
from batch_assets_tests.serving.small_home import NEWEST, key_of, rows_of_day

ROUNDS, SECONDS = 3, float(os.environ.get("SERVING_LOAD_SECONDS", "0"))
"""Days are materialised three times, and again until so many seconds have passed."""
EARLIER = NEWEST - timedelta(2)
IDS = [row[0] for day in (EARLIER, NEWEST) for row in rows_of_day(day)]
Version = tuple[str, str]
Start = Callable[..., ServerProcess]


class Asker(threading.Thread):
    """Asks again and again until it is told to end; keeps the first thing that is wrong.

    Args:
        url: of the server.
        ask: what; returns the version of each day that it saw in one answer.
    """

    def __init__(self, url: str, ask: Callable[[httpx.Client], dict[str, Version]]) -> None:
        super().__init__()
        self._client, self._ask = httpx.Client(base_url=url, timeout=60), ask
        self._end = threading.Event()
        self.wrong: BaseException | None = None
        self.seen: dict[str, list[Version]] = {}
        self.answers = 0

    def run(self) -> None:
        try:
            while not self._end.is_set():
                for day, version in self._ask(self._client).items():
                    seen = self.seen.setdefault(day, [])
                    if not seen or seen[-1] != version:
                        assert version not in seen, f"{day}: {version} again, after {seen[-1]}"
                        seen.append(version)
                self.answers += 1
        except BaseException as error:
            self.wrong = error

    def end(self) -> None:
        self._end.set()
        self.join()
        self._client.close()
        if self.wrong:
            raise self.wrong


def ok(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()


def versions(rows: list[dict[str, Any]]) -> dict[str, Version]:
    """The one version of each day."""
    found: dict[str, Version] = {}
    for row in rows:
        version = row["model_version"], row.get("scored_at", "")
        assert found.setdefault(row["day"], version) == version, "two versions in one answer"
    return found


def ask_many(client: httpx.Client) -> dict[str, Version]:
    found = ok(client.post("/v1/fraud/predictions:batch", json={"ids": IDS}))
    assert found["missing"] == []
    assert {row["view"] for row in found["predictions"]} == {found["view"]}
    return versions(found["predictions"])


def ask_of_one(client: httpx.Client) -> dict[str, Version]:
    return versions([ok(client.get(f"/v1/fraud/predictions/{key_of(NEWEST, 7)}"))])


def ask_of_a_customer(client: httpx.Client) -> dict[str, Version]:
    return versions(ok(client.get("/v1/fraud/customers/cust3?limit=1000"))["predictions"])


def ask_for_alerts(client: httpx.Client) -> dict[str, Version]:
    return versions(ok(client.get(f"/v1/fraud/alerts?day={NEWEST}"))["alerts"])


def ask_for_neighbours(client: httpx.Client) -> dict[str, Version]:
    asked = {"transaction_id": key_of(NEWEST, 3), "k": 50, "first_day": str(NEWEST)}
    rows = ok(client.post("/v1/fraud/similar", json=asked))["neighbours"]
    assert len(rows) == 50
    return versions(rows)


ASKS = (ask_many, ask_of_one, ask_of_a_customer, ask_for_alerts, ask_for_neighbours)


@pytest.fixture(params=["1GB", "40kB"], ids=["all in memory", "most on disk"])
def server(request: Any, own_home: Path, start_server: Start) -> ServerProcess:
    server: ServerProcess = start_server(own_home, BATCH_ASSETS_SERVING_MEMORY=request.param)
    return server


@pytest.fixture
def askers(server: ServerProcess) -> Iterator[list[Asker]]:
    started = [Asker(server.url, ask) for ask in ASKS]
    for asker in started:
        asker.start()
    yield started
    for asker in started:
        asker.end()


def test_materialising_days_gives_no_error_and_no_mixed_answer(
    pipeline: Pipeline, server: ServerProcess, askers: list[Asker]
) -> None:
    until = time.monotonic() + SECONDS
    for seed in count(1):
        version = put_any_model_live(pipeline, seed)
        pipeline.update([EARLIER, NEWEST])
        while {model for model, _ in ask_many(server.client).values()} != {version}:
            pass  # the server notices within seconds
        if seed >= ROUNDS and time.monotonic() > until:
            break
    for asker in askers:
        asker.end()
        assert asker.answers > 0
    assert len(askers[0].seen[str(NEWEST)]) > ROUNDS
    assert server.stop() == 0
    assert "ERROR" not in server.log()


def test_a_kill_loses_no_answer_that_was_given(own_home: Path, start_server: Start) -> None:
    server = start_server(own_home)
    given: dict[str, float] = {}
    enough = threading.Event()

    def ask(first: int) -> None:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            for n in count(first, 4):
                try:
                    answer = client.post("/v1/fraud/score", json={"rows": [new_row(n)]})
                except httpx.TransportError:
                    return
                (row,) = ok(answer)["predictions"]
                given[row["transaction_id"]] = row["score"]
                if len(given) > 100:
                    enough.set()

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    while not enough.wait(0.1):
        assert any(thread.is_alive() for thread in threads)
    server.process.kill()
    for thread in threads:
        thread.join()

    again = start_server(own_home)
    found = ok(again.client.post("/v1/fraud/predictions:batch", json={"ids": list(given)}))
    assert found["missing"] == []
    assert {row["transaction_id"]: row["score"] for row in found["predictions"]} == given
    assert {row["source"] for row in found["predictions"]} == {"realtime"}
    row = new_row(0)
    (same,) = ok(again.client.post("/v1/fraud/score", json={"rows": [row]}))["predictions"]
    assert same["score"] == given[row["transaction_id"]]
    ok(again.client.post("/v1/fraud/score", json={"rows": [new_row(80_000)]}))
    assert "batch_assets_realtime_score_seconds_bucket" in again.client.get("/metrics").text
    other = again.client.post("/v1/fraud/score", json={"rows": [{**row, "amount": "1.00"}]})
    assert other.status_code == 409


def new_row(n: int) -> dict[str, str]:
    at = NEWEST + timedelta(1)
    return {
        "transaction_id": f"new-{n}",
        "customer_id": f"cust{n % 5}",
        "terminal_id": f"shop{n % 3}",
        "amount": f"{n % 90 + 0.5:.2f}",
        "currency": "EUR",
        "happened_at": f"{at}T{n // 3600 % 24:02}:{n // 60 % 60:02}:{n % 60:02}",
    }
