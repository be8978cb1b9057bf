"""What is answered, what is refused, and how."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from batch_assets.serving.security import FOLDER, KeyFile
from batch_assets_tests.fraud.zone import START, days
from batch_assets_tests.serving.process import ServerProcess
from batch_assets_tests.serving.small_home import (
    DAYS,
    NEWEST,
    ROWS_A_DAY,
    key_of,
    rows_of_day,
)

FRAUD = "/v1/fraud"
KEY = key_of()
SIZE = 64
ZEROS = [0.0] * SIZE


@pytest.fixture(scope="module")
def client(scored_home: Path) -> Iterator[httpx.Client]:
    server = ServerProcess(scored_home, ("--no-access-log",), os.environ)
    yield server.client
    print(server.log())
    server.kill()


def problem(answer: Any, status: int) -> Mapping[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: Mapping[str, Any] = answer.json()
    assert found["status"] == status
    assert found["detail"]
    return found


def test_a_prediction_says_where_it_came_from_and_how_old_it_is(client: httpx.Client) -> None:
    found = client.get(f"{FRAUD}/predictions/{KEY}").json()
    assert found["transaction_id"] == KEY
    assert 0 <= found["score"] <= 1
    assert found["source"] == "memory"
    assert found["model_version"]
    assert found["scored_at"].endswith("Z")
    assert found["stale"] is False
    assert found["age_seconds"] >= 0


def test_the_short_way_and_the_router_answer_alike(client: httpx.Client) -> None:
    one = client.get(f"{FRAUD}/predictions/{KEY}").json()
    many = client.post(f"{FRAUD}/predictions:batch", json={"ids": [KEY]}).json()
    same = [name for name in one if name != "age_seconds"]
    assert {n: one[n] for n in same} == {n: many["predictions"][0][n] for n in same}


def test_many_predictions_keep_their_order_and_name_who_is_missing(client: httpx.Client) -> None:
    ids = [row[0] for row in rows_of_day(NEWEST)]
    asked = [*reversed(ids), "nobody", ids[0]]
    found = client.post(f"{FRAUD}/predictions:batch", json={"ids": asked}).json()
    assert [row["transaction_id"] for row in found["predictions"]] == ids[::-1]
    assert found["missing"] == ["nobody"]
    assert {row["view"] for row in found["predictions"]} == {found["view"]}


def test_pages_of_a_customer_lose_and_repeat_nothing(client: httpx.Client) -> None:
    paged, path = [], f"{FRAUD}/customers/cust1?limit=7"
    while path:
        page = client.get(path).json()
        paged += [row["transaction_id"] for row in page["predictions"]]
        path = page["next"]
    whole = client.get(f"{FRAUD}/customers/cust1?limit=1000").json()
    assert paged == [row["transaction_id"] for row in whole["predictions"]]
    assert len(set(paged)) == DAYS * ROWS_A_DAY // 5
    assert whole["latest"] == whole["predictions"][0]
    assert whole["highest"]["score"] == max(row["score"] for row in whole["predictions"])
    times = [row["happened_at"] for row in whole["predictions"]]
    assert times == sorted(times, reverse=True)


def test_alerts_come_with_reasons_and_provenance(client: httpx.Client) -> None:
    found = client.get(f"{FRAUD}/alerts").json()
    assert found["day"] == str(NEWEST)
    assert {row["customer_id"] for row in found["alerts"]} == {f"cust{n}" for n in range(5)}
    for row in found["alerts"]:
        assert row["reasons"]
        assert row["source"] == "memory"
        assert row["scored_at"]
    one = client.get(f"{FRAUD}/alerts", params={"day": str(START), "limit": 1}).json()
    assert [row["day"] for row in one["alerts"]] == [str(START)]


def test_an_explanation_is_of_the_score_that_is_looked_up(client: httpx.Client) -> None:
    row = client.get(f"{FRAUD}/predictions/{KEY}").json()
    why = client.get(f"{FRAUD}/predictions/{KEY}/explanation").json()
    assert why["score"] == row["score"]
    assert why["scored_at"] == row["scored_at"]
    assert why["reasons"]
    assert why["contributions"]


def test_neighbours_are_near_and_within_the_filters(client: httpx.Client) -> None:
    first = str(days(DAYS)[3])
    asked = {"transaction_id": KEY, "k": 20, "customer_id": "cust2", "first_day": first}
    found = client.post(f"{FRAUD}/similar", json=asked).json()
    rows = found["neighbours"]
    assert len(rows) == 20
    assert {row["customer_id"] for row in rows} == {"cust2"}
    assert min(row["day"] for row in rows) >= first
    distances = [row["distance"] for row in rows]
    assert distances == sorted(distances)
    assert found["exact"] in (True, False)
    assert 0 <= found["index_coverage"] <= 1


def test_the_same_vector_is_found_by_key_and_by_vector(client: httpx.Client) -> None:
    vector = ZEROS
    found = client.post(f"{FRAUD}/similar", json={"vector": vector, "k": 3, "exact": True}).json()
    assert len(found["neighbours"]) == 3
    assert found["exact"] is True


def test_labels_that_are_known_are_told(client: httpx.Client) -> None:
    rows = client.get(f"{FRAUD}/customers/cust0?limit=1000").json()["predictions"]
    labels = {row["transaction_id"]: row["label"] for row in rows}
    assert labels[KEY] == 1
    assert None in labels.values()


def test_the_map_places_points_and_names(client: httpx.Client) -> None:
    found = client.get(f"{FRAUD}/map", params={"size": 50}).json()
    assert len(found["points"]) == 50
    places = client.post(f"{FRAUD}/map:batch", json={"ids": [KEY, "nobody"]}).json()
    assert [point["key"] for point in places["points"]] == [KEY]
    assert places["missing"] == ["nobody"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"transaction_id": KEY, "k": 0}, "body.k"),
        ({"transaction_id": KEY, "k": 1_001}, "body.k"),
        ({"transaction_id": KEY, "k": 10**400}, "body.k"),
        ({"transaction_id": KEY, "k": True}, "body.k"),
        ({"transaction_id": KEY, "k": 1.5}, "body.k"),
        ({"transaction_id": 7}, "body.transaction_id"),
        ({"transaction_id": "x" * 201}, "body.transaction_id"),
        ({"transaction_id": KEY, "vector": ZEROS}, "body"),
        ({}, "body"),
        ({"vector": [0.0] * (SIZE - 1)}, "body.vector"),
        ({"vector": [0.0] * (SIZE + 1)}, "body.vector"),
        ({"vector": [1e300] * SIZE}, "body.vector[0]"),
        ({"vector": ["1"] * SIZE}, "body.vector[0]"),
        ({"transaction_id": KEY, "first_day": "yesterday"}, "body.first_day"),
        ({"transaction_id": KEY, "first_day": "2026-02-30"}, "body.first_day"),
        ({"transaction_id": KEY, "first_day": "9999-01-01"}, "body.first_day"),
        ({"transaction_id": KEY, "first_day": 0}, "body.first_day"),
        ({"vector": ZEROS, "first_day": "2026-01-02", "last_day": "2026-01-01"}, "body.first_day"),
        ({"transaction_id": KEY, "min_score": 1, "max_score": 0}, "body.min_score"),
        ({"transaction_id": KEY, "customer_id": "a' OR 'a' = 'a", "where": "1"}, "body.where"),
    ],
)  # fmt: skip
def test_a_wrong_search_is_told_which_field(
    client: httpx.Client, body: dict[str, Any], field: str
) -> None:
    found = problem(client.post(f"{FRAUD}/similar", json=body), 422)
    assert field in [one["field"] for one in found["errors"]]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_vectors_that_are_not_finite_are_refused(client: httpx.Client, number: str) -> None:
    vector = ",".join([number] + ["0.5"] * (SIZE - 1))
    answer = client.post(
        f"{FRAUD}/similar",
        content=f'{{"vector": [{vector}]}}',
        headers={"Content-Type": "application/json"},
    )
    found = problem(answer, 422)
    assert found["errors"][0]["field"] == "body.vector[0]"


def test_a_filter_is_a_value_and_never_a_condition(client: httpx.Client) -> None:
    asked = {"transaction_id": KEY, "customer_id": "cust1' OR '1' = '1", "k": 5}
    assert client.post(f"{FRAUD}/similar", json=asked).json()["neighbours"] == []


def test_vectors_of_other_models_are_not_compared(client: httpx.Client) -> None:
    asked = {"vector": [0.1] * SIZE, "model_version": "0123456789abcdef"}
    assert "live one" in problem(client.post(f"{FRAUD}/similar", json=asked), 404)["detail"]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[" * 900_000, b'{"ids": ["\xff"]}', b"9" * 5_000, b"nonsense", b"null", b"[]"],
)
def test_what_is_no_json_or_no_object_is_refused(client: httpx.Client, content: bytes) -> None:
    answer = client.post(
        f"{FRAUD}/predictions:batch",
        content=content,
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code in (400, 422)
    problem(answer, answer.status_code)


def test_odd_texts_are_looked_up_like_any_other(client: httpx.Client) -> None:
    odd = ["\x00", "é", "\U0001f600", "..", "%", "a b", "'; DROP TABLE x", "\u202e"]
    found = client.post(f"{FRAUD}/predictions:batch", json={"ids": odd}).json()
    assert found["missing"] == odd
    for text in ("%00", "%ff%fe", "%ED%A0%80", "..%2f..", "%27%3B", "a%20b"):
        problem(client.get(f"{FRAUD}/predictions/{text}"), 404)
    lone = client.post(
        f"{FRAUD}/predictions:batch",
        content=rb'{"ids": ["\ud800"]}',
        headers={"Content-Type": "application/json"},
    )
    assert lone.status_code in (200, 422)


def test_too_many_ids_and_too_long_bodies_are_refused(client: httpx.Client) -> None:
    path = f"{FRAUD}/predictions:batch"
    problem(client.post(path, json={"ids": [str(n) for n in range(1_001)]}), 422)
    problem(client.post(path, json={"ids": []}), 422)
    problem(client.post(path, content=b" " * 1_100_000), 413)

    def endless() -> Iterator[bytes]:
        while True:
            yield b" " * 10_000

    chunked = client.post(path, content=endless(), headers={"Content-Type": "application/json"})
    problem(chunked, 413)


def test_other_media_types_are_refused(client: httpx.Client) -> None:
    path = f"{FRAUD}/predictions:batch"
    problem(client.post(path, content=b"ids=1", headers={"Content-Type": "text/plain"}), 415)
    problem(client.post(path, content=json.dumps({"ids": [KEY]})), 415)


def test_unknown_paths_and_methods_are_problems(client: httpx.Client) -> None:
    for path in ("/nowhere", "/v1/nowhere", f"{FRAUD}/", f"{FRAUD}/predictions/", "/v2"):
        problem(client.get(path), 404)
    for method, path, allowed in (
        ("DELETE", f"{FRAUD}/predictions/{KEY}", "GET"),
        ("GET", f"{FRAUD}/similar", "POST"),
        ("PUT", "/healthz", "GET"),
        ("TRACE", "/readyz", "GET"),
    ):
        answer = client.request(method, path)
        problem(answer, 405)
        assert answer.headers["allow"] == allowed


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "before=0", "before=2026-01-01"])
def test_wrong_queries_are_told(client: httpx.Client, query: str) -> None:
    name = f"query.{query.split('=')[0]}"
    found = problem(client.get(f"{FRAUD}/customers/cust1?{query}"), 422)
    assert found["errors"][0]["field"] == name


def test_days_that_are_not_scored_are_not_found(client: httpx.Client) -> None:
    problem(client.get(f"{FRAUD}/alerts", params={"day": "2199-12-31"}), 404)
    problem(client.get(f"{FRAUD}/alerts", params={"day": "0001-01-01"}), 422)


def test_another_host_is_refused(client: httpx.Client) -> None:
    for host in ("evil.example", "evil.example:80", "", "localhost.evil.example"):
        problem(client.get("/healthz", headers={"Host": host}), 421)
    for host in ("localhost", "localhost:8000", "127.0.0.1:1", "[::1]:8000", "LOCALHOST"):
        assert client.get("/healthz", headers={"Host": host}).status_code == 200


def test_answers_forbid_what_a_browser_could_be_made_to_do(client: httpx.Client) -> None:
    for path in ("/healthz", f"{FRAUD}/predictions/{KEY}", "/nowhere", "/docs"):
        headers = client.get(path, headers={"Origin": "https://evil.example"}).headers
        assert "access-control-allow-origin" not in headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]


def test_head_is_get_without_a_body(client: httpx.Client) -> None:
    answer = client.head(f"{FRAUD}/predictions/{KEY}")
    assert answer.status_code == 200
    assert answer.content == b""


def test_metrics_count_tiers_and_name_no_id(client: httpx.Client) -> None:
    client.get(f"{FRAUD}/predictions/{KEY}")
    client.get(f"{FRAUD}/predictions/nobody-4711")
    text = client.get("/metrics").text
    for line in (
        'batch_assets_lookups_total{tier="memory",workload="fraud"}',
        'batch_assets_requests_total{route="/v1/fraud/predictions/{id}",status="200"}',
        "batch_assets_request_seconds_bucket",
        'batch_assets_view{workload="fraud"} ',
        'batch_assets_staleness_seconds{workload="fraud"}',
        'batch_assets_memory_bytes{tier="vectors",workload="fraud"}',
        'batch_assets_queue{queue="store"} 0.0',
    ):
        assert line in text
    assert KEY not in text
    assert "4711" not in text


def test_an_id_that_nobody_scored_is_counted_once(client: httpx.Client) -> None:
    def counted() -> float:
        tier = 'batch_assets_lookups_total{tier="not scored",workload="fraud"} '
        lines = client.get("/metrics").text.splitlines()
        return sum(float(line.removeprefix(tier)) for line in lines if line.startswith(tier))

    before = counted()
    problem(client.get(f"{FRAUD}/predictions/nobody-4712"), 404)
    assert counted() == before + 1


def test_freshness_names_what_is_served(client: httpx.Client) -> None:
    (found,) = client.get("/v1/freshness").json()["workloads"]
    assert found["newest_day"] == str(NEWEST)
    assert found["predictions"] == DAYS * ROWS_A_DAY
    assert found["days"] == DAYS
    assert found["problems"] == []
    assert "/assets/fraud_predictions" in found["lineage"]
    assert client.get("/readyz").json() == {"status": "ready", "notes": []}


@pytest.fixture(scope="module")
def guarded(scored_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    home = tmp_path_factory.mktemp("guarded") / "home"
    shutil.copytree(scored_home, home)
    file = KeyFile(home / FOLDER)
    tokens = {name: file.create(name, [name])[1] for name in ("read", "score")}
    variables = {**os.environ, "BATCH_ASSETS_SERVING_RATE": "20"}
    server = ServerProcess(home, ("--require-keys",), variables)
    yield server.client, file, tokens
    server.kill()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_keys_are_asked_for_and_scopes_count(guarded: Any) -> None:
    client, _, tokens = guarded
    path = f"{FRAUD}/predictions/{KEY}"
    wrong = [{}, bearer("nonsense"), bearer("ba__"), bearer(tokens["read"] + "x")]
    odd = [{"Authorization": f"Basic {tokens['read']}"}, {"Authorization": b"Bearer ba_\xe9_\xff"}]
    for headers in (*wrong, *odd):
        answer = client.get(path, headers=headers)
        problem(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"
    problem(client.get("/metrics"), 401)
    problem(client.get("/v1"), 401)
    for open_path in ("/healthz", "/readyz", "/openapi.json"):
        assert client.get(open_path).status_code == 200
    reading, scoring = bearer(tokens["read"]), bearer(tokens["score"])
    assert client.get(path, headers=reading).status_code == 200
    problem(client.get(path, headers=scoring), 403)
    problem(client.get(f"{FRAUD}/customers/score", headers=scoring), 403)
    problem(client.post(f"{FRAUD}/score", json={"rows": []}, headers=reading), 403)
    problem(client.post(f"{FRAUD}/score", json={"rows": []}, headers=scoring), 422)


def test_a_key_that_asks_too_often_is_told_when_to_ask_again(guarded: Any) -> None:
    client, _, tokens = guarded
    headers = bearer(tokens["read"])
    answer = client.get("/v1", headers=headers)
    while answer.status_code == 200:
        answer = client.get("/v1", headers=headers)
    problem(answer, 429)
    assert int(answer.headers["retry-after"]) >= 1
    other = client.post(f"{FRAUD}/score", json={"rows": []}, headers=bearer(tokens["score"]))
    problem(other, 422)


def test_a_key_that_is_revoked_is_refused_while_the_server_runs(guarded: Any) -> None:
    client, file, _ = guarded
    key, token = file.create("leaver", ["read"])
    while client.get("/v1", headers=bearer(token)).status_code == 401:
        pass  # it looks for new keys once a second
    file.revoke(key.id)
    while client.get("/v1", headers=bearer(token)).status_code != 401:
        pass
