"""What the OpenAPI document says is what the server does: schemathesis looks for anything else."""

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis import Case
from schemathesis.config import SchemathesisConfig

from batch_assets.fraud.served import fraud_workload
from batch_assets.serving.app import create_app
from batch_assets.serving.security import FOLDER, KeyFile, Keys
from batch_assets.serving.served import Served
from batch_assets.settings import load_settings
from batch_assets_tests.serving.process import ServerProcess

ACCEPTED = ["2xx", "401", "403", "404", "409", "429", "5xx"]
# What no schema can say: that the lower end of a range is not above the upper one, and which
# feeds and rates a home has.
BEYOND_SCHEMAS = ["/v1/fraud/similar", "/v1/fraud/score"]
CONFIG = {
    "checks": {"positive_data_acceptance": {"expected-statuses": ACCEPTED}},
    "operations": [
        {
            "include-path": path,
            "checks": {"positive_data_acceptance": {"expected-statuses": [*ACCEPTED, "422"]}},
        }
        for path in BEYOND_SCHEMAS
    ],
}


def document(keys: Keys | None = None) -> dict[str, Any]:
    settings = load_settings()
    return create_app([Served(fraud_workload(), settings)], settings, keys=keys).openapi()


def schema(of: dict[str, Any]) -> Any:
    return schemathesis.openapi.from_dict(of, config=SchemathesisConfig.from_dict(CONFIG))


def examples(most: int) -> hypothesis.settings:
    return hypothesis.settings(
        max_examples=most,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )


@pytest.fixture(scope="module")
def home(scored_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("api") / "home"
    shutil.copytree(scored_home, home)
    return home


def running(home: Path, *arguments: str) -> Iterator[ServerProcess]:
    server = ServerProcess(home, ("--no-access-log", *arguments), os.environ)
    yield server
    print(server.log())
    server.kill()


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[ServerProcess]:
    yield from running(home)


@pytest.fixture(scope="module")
def key(home: Path) -> str:
    return KeyFile(home / FOLDER).create("test", ["read", "score"])[1]


@pytest.fixture(scope="module")
def guarded(home: Path, key: str) -> Iterator[ServerProcess]:
    yield from running(home, "--require-keys")


@schema(document()).parametrize()
@examples(25)
def test_it_does_what_it_says(case: Case[Any], server: ServerProcess) -> None:
    case.call_and_validate(base_url=server.url)


@(
    schema(document(Keys(KeyFile(Path("nowhere")), 1)))
    .include(path_regex="^/(v1/fraud/(predictions|score)|metrics|readyz)")
    .parametrize()
)
@examples(5)
def test_it_asks_for_keys_as_it_says(case: Case[Any], guarded: ServerProcess, key: str) -> None:
    case.call_and_validate(base_url=guarded.url, headers={"Authorization": f"Bearer {key}"})


def test_every_operation_is_described_with_its_problems() -> None:
    for path, operations in document()["paths"].items():
        for operation in operations.values():
            assert operation["summary"], path
            refused = {s: r for s, r in operation["responses"].items() if not s.startswith("2")}
            assert refused, path
            for answer in refused.values():
                assert list(answer["content"]) == ["application/problem+json"], path


def test_what_a_workload_takes_and_gives_has_an_example() -> None:
    found = document()
    without = {"AnyRow"}
    for path, operations in found["paths"].items():
        for operation in operations.values():
            for media in _contents(operation):
                name = media.get("schema", {}).get("$ref", "").rpartition("/")[2]
                if path.startswith("/v1/fraud/") and name not in without:
                    assert found["components"]["schemas"][name]["examples"], f"{path} {name}"


def _contents(operation: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for part in (operation.get("requestBody", {}), operation["responses"]["200"]):
        yield from part.get("content", {}).values()
