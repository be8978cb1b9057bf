import pytest

from batch_assets_tests.simulate.received import Delivered, received, simulate_few


@pytest.fixture(scope="session")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Delivered:
    """A small world over the default 45 days, and all its rows."""
    home = tmp_path_factory.mktemp("home")
    summary = simulate_few(home, days=45)
    return Delivered(home, summary, received(home / "landing"))
