"""A small home with real results, and real servers over it."""

import os
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from batch_assets.fraud.pipeline import Pipeline
from batch_assets_tests.fraud.zone import START, Zone, a_day_of_rows, days, put_any_model_live
from batch_assets_tests.serving.process import ServerProcess

DAYS = 12
ROWS_A_DAY = 60


@pytest.fixture(scope="session")
def scored_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with twelve scored days of sixty transactions; not to be changed."""
    home = tmp_path_factory.mktemp("scored") / "home"
    home.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BATCH_ASSETS_HOME", str(home))
        zone = Zone(home).describe()
        for day in days(DAYS):
            zone.deliver(day, a_day_of_rows(day, ROWS_A_DAY))
            known = a_day_of_rows(day - timedelta(days=7), ROWS_A_DAY)
            zone.label(day, [(r[0], r[4], 1) for r in known[::9] if day - START >= timedelta(7)])
        pipeline = zone.pipeline()
        put_any_model_live(pipeline)
        pipeline.update(days(DAYS))
    return home


@pytest.fixture
def own_home(scored_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it that may be changed, which is BATCH_ASSETS_HOME during the test."""
    home = tmp_path / "home"
    shutil.copytree(scored_home, home)
    monkeypatch.setenv("BATCH_ASSETS_HOME", str(home))
    return home


@pytest.fixture
def pipeline(own_home: Path) -> Pipeline:
    """The pipeline over the copy."""
    return Zone(own_home).pipeline()


@pytest.fixture
def start_server() -> Iterator[Callable[..., ServerProcess]]:
    """Starts ``batch-assets serve`` over a home, with further arguments; all end with the test."""
    started: list[ServerProcess] = []

    def start(home: Path, *arguments: str, **variables: str) -> ServerProcess:
        server = ServerProcess(home, arguments, {**os.environ, **variables})
        started.append(server)
        return server

    yield start
    for server in started:
        server.kill()
