"""A small home with real results, and real servers over it."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from batch_assets.fraud.pipeline import Pipeline
from batch_assets_tests.fraud.zone import Zone
from batch_assets_tests.serving.process import ServerProcess
from batch_assets_tests.serving.small_home import make_home


@pytest.fixture(scope="session")
def scored_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of :mod:`batch_assets_tests.serving.small_home`; not to be changed."""
    home = tmp_path_factory.mktemp("scored") / "home"
    home.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BATCH_ASSETS_HOME", str(home))
        make_home(home)
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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.fail("chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()
