import datetime
import hashlib
import pathlib
import subprocess
import sys

import pytest

import batch_assets
from batch_assets.errors import BatchAssetsError
from batch_assets.fraud.feeds import load_feeds
from batch_assets.simulate import simulate
from batch_assets_tests.simulate.received import Delivered, simulate_few


def hashes(home: pathlib.Path, days: int = 10_000) -> dict[str, str]:
    """Content hashes of all files that arrive in the first `days` days."""
    last = (datetime.date(2026, 3, 1) + datetime.timedelta(days=days - 1)).isoformat()
    return {
        str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(home.rglob("*"))
        if path.is_file() and path.parent.name <= last
    }


def test_two_processes_write_the_same_bytes(tmp_path: pathlib.Path) -> None:
    program = (
        "import pathlib, sys; from batch_assets.simulate import simulate; "
        "simulate(pathlib.Path(sys.argv[1]), days=13, customers=200, terminals=300)"
    )
    root = pathlib.Path(batch_assets.__file__).parents[1]
    for name in ("one", "two"):
        command = [sys.executable, "-c", program, str(tmp_path / name)]
        subprocess.run(command, check=True, cwd=root)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")


def test_a_second_run_in_the_same_home_changes_no_file(tmp_path: pathlib.Path) -> None:
    first = simulate_few(tmp_path, days=12)
    before = hashes(tmp_path), [path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*"))]
    second = simulate_few(tmp_path, days=12)
    after = hashes(tmp_path), [path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*"))]
    assert (first, before) == (second, after)


def test_another_seed_gives_other_transactions(tmp_path: pathlib.Path) -> None:
    simulate_few(tmp_path / "one", days=1, seed=1)
    simulate_few(tmp_path / "two", days=1, seed=2)
    one, two = hashes(tmp_path / "one"), hashes(tmp_path / "two")
    assert one.keys() == two.keys()
    differing = {name for name in one if one[name] != two[name]}
    assert sum("/europe_cards/" in n or "/asia_wallet/" in n for n in differing) == 2


def test_a_longer_simulation_begins_with_the_files_of_a_shorter_one(
    delivered: Delivered, tmp_path: pathlib.Path
) -> None:
    simulate_few(tmp_path, days=14)
    assert hashes(tmp_path) == hashes(delivered.home, days=14)


def test_the_feed_description_is_valid_and_finds_every_file(delivered: Delivered) -> None:
    home, summary = delivered.home, delivered.summary
    landing = home / "landing"
    found = [
        (path, day)
        for feed in load_feeds(home).by_name.values()
        for path, day in feed.files(landing)
    ]
    assert len(found) == len({path for path, _ in found}) == summary.files
    assert all(day is not None and path.parent.name == str(day) for path, day in found)
    assert sum(path.stat().st_size for path, _ in found) == summary.bytes


def test_summary_counts_the_delivered_rows(delivered: Delivered) -> None:
    summary, rows = delivered.summary, delivered.rows
    planted = summary.planted
    further = [
        f"{what}_{when}" for what in ("repeated", "conflict") for when in ("in_file", "next_day")
    ]
    further += ["copied_file_rows", "resent_after_truncation"]
    arrived = summary.transactions - summary.undelivered
    assert summary.rows == arrived + sum(planted[name] for name in further)
    # The file that was cut cannot be read to its end; the same rows came again.
    assert len(rows) == summary.rows - planted["resent_after_truncation"]
    # One key is lost with its line.
    assert len({row.key for row in rows if row.key}) == arrived - planted["invalid_json"]


def test_progress_is_told_after_each_day(tmp_path: pathlib.Path) -> None:
    told: list[tuple[int, int]] = []
    simulate_few(tmp_path, days=3, progress=lambda done, days: told.append((done, days)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_the_smallest_world_can_be_simulated(tmp_path: pathlib.Path) -> None:
    summary = simulate(tmp_path, days=20, customers=3, terminals=3)
    assert summary.transactions > 0
    assert summary.planted["truncated_file"] <= 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"days": 0}, "days is 0; give 1 or more"),
        ({"days": 99_999}, "days is 99999"),
        ({"days": 1, "seed": -1}, "seed is -1"),
        ({"days": 1, "customers": 2}, "customers is 2; give 3"),
        ({"days": 1, "terminals": 0}, "terminals is 0"),
        ({"days": 1, "start": datetime.date(9999, 12, 31)}, "start is 9999-12-31"),
    ],
)
def test_impossible_wishes_get_one_clear_line(
    wrong: dict[str, object], message: str, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(BatchAssetsError, match=message):
        simulate(tmp_path, **wrong)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
