"""Fixtures that tests of several rooms share; nothing here or in a test writes outside tmp."""

import os
import shutil
import tempfile
from pathlib import Path

import hypothesis
import pytest

HANDBOOK = "BATCH_ASSETS_HANDBOOK"

# Before any module of ours is imported: what is configured on this machine is not for the tests.
for _name in [n for n in os.environ if n.startswith("BATCH_ASSETS_") and n != HANDBOOK]:
    del os.environ[_name]
_session = Path(tempfile.mkdtemp(prefix="batch-assets-tests-"))
os.environ["BATCH_ASSETS_HOME"] = str(_session / "home")
os.environ["DAGSTER_HOME"] = str(_session / "dagster")
(_session / "dagster").mkdir()
(_session / "dagster" / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")

hypothesis.settings.register_profile(
    "batch_assets", deadline=None, derandomize="CI" in os.environ, database=None
)
hypothesis.settings.load_profile("batch_assets")


def pytest_unconfigure() -> None:
    shutil.rmtree(_session, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and not _has_cuda():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="there is no CUDA device"))


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data home, which is BATCH_ASSETS_HOME during the test."""
    path = tmp_path / "home"
    path.mkdir()
    for name in os.environ:
        if name.startswith("BATCH_ASSETS_") and name != HANDBOOK:
            monkeypatch.delenv(name)
    monkeypatch.setenv("BATCH_ASSETS_HOME", str(path))
    monkeypatch.setenv("DAGSTER_HOME", os.environ["DAGSTER_HOME"])  # set back after the test
    return path


@pytest.fixture(scope="session")
def handbook() -> Path:
    """Folder of the handbook's days, one Parquet file each."""
    folder = os.environ.get(HANDBOOK)
    if not folder:
        pytest.skip(f"{HANDBOOK} names no folder with the handbook's days")
    path = Path(folder)
    if not any(path.glob("????-??-??.parquet")):
        pytest.fail(f"{HANDBOOK} is {folder}, which holds no file such as 2018-04-01.parquet")
    return path
