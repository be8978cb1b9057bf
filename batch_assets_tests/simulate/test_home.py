import datetime
import pathlib
import tomllib

import pytest

from batch_assets.errors import BatchAssetsError
from batch_assets.simulate.home import FEEDS, prepare
from batch_assets.simulate.world import Parameters


def parameters(days: int = 5, seed: int = 7) -> Parameters:
    return Parameters(days, seed, datetime.date(2026, 3, 1), 10, 20)


def test_settings_say_where_the_days_begin(tmp_path: pathlib.Path) -> None:
    landing = prepare(tmp_path, parameters())
    assert landing == tmp_path / "landing"
    settings = tomllib.loads((tmp_path / "settings.toml").read_text())
    assert settings == {"start_date": datetime.date(2026, 3, 1), "currency": "EUR"}
    assert (tmp_path / "feeds.yaml").read_text(encoding="utf-8") == FEEDS


def test_the_same_simulation_may_grow_and_keeps_what_a_person_added(tmp_path: pathlib.Path) -> None:
    prepare(tmp_path, parameters())
    feeds = tmp_path / "feeds.yaml"
    feeds.write_text(FEEDS + "  # more\n", encoding="utf-8")
    prepare(tmp_path, parameters(days=9))
    assert feeds.read_text(encoding="utf-8").endswith("# more\n")


def test_another_simulation_is_refused(tmp_path: pathlib.Path) -> None:
    prepare(tmp_path, parameters())
    with pytest.raises(BatchAssetsError, match=r"another simulation .*seed 7.*asked for.*seed 8"):
        prepare(tmp_path, parameters(seed=8))


def test_an_unreadable_record_is_refused(tmp_path: pathlib.Path) -> None:
    prepare(tmp_path, parameters())
    (tmp_path / "landing/simulation.json").write_text("{")
    with pytest.raises(BatchAssetsError, match=r"unreadable simulation\.json"):
        prepare(tmp_path, parameters())


def test_landing_files_of_others_are_left_alone(tmp_path: pathlib.Path) -> None:
    theirs = tmp_path / "landing/bank/2026-01-01/file.csv"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("a,b\n")
    with pytest.raises(BatchAssetsError, match="holds files that no simulation wrote"):
        prepare(tmp_path, parameters())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [theirs]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("feeds.yaml", b"feeds: {}\n"),
        ("settings.toml", b"start_date = 2020-01-01\n"),
        ("settings.toml", b"start_date = \n"),
        ("settings.toml", b"\xff"),
    ],
)
def test_settings_and_feeds_of_others_are_left_alone(
    name: str, content: bytes, tmp_path: pathlib.Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BatchAssetsError, match=f"{name} is there already"):
        prepare(tmp_path, parameters())
    assert (tmp_path / name).read_bytes() == content


def test_settings_that_agree_are_kept(tmp_path: pathlib.Path) -> None:
    settings = tmp_path / "settings.toml"
    text = 'device = "cpu"\nstart_date = 2026-03-01\ncurrency = "EUR"\n'
    settings.write_text(text)
    prepare(tmp_path, parameters())
    assert settings.read_text() == text


def test_a_home_that_is_a_file_gets_a_clear_message(tmp_path: pathlib.Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(BatchAssetsError, match="cannot be created"):
        prepare(tmp_path / "home", parameters())
