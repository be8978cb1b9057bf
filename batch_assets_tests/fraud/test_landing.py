"""The landing zone: what lies there, what of it was seen before, and which files are copies."""

import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from batch_assets.fraud.feeds import Feed, Feeds
from batch_assets.fraud.landing import LandedFile, scan_landing

FIRST = date(2026, 1, 1)
Seen = dict[str, dict[str, Any]]


def feeds(*globs: str) -> Feeds:
    columns = {"key": "k", "time": "t", "label": "l"}
    entries = {
        name: Feed.model_validate(
            {"name": name, "kind": "labels", "glob": glob, "format": "csv", "columns": columns}
        )
        for name, glob in zip("abc", globs, strict=False)
    }
    return Feeds(entries)


def put(landing: Path, name: str, content: str) -> Path:
    path = landing / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def scan(
    landing: Path,
    *globs: str,
    seen: Seen | None = None,
    kept: dict[str, date] | None = None,
) -> list[LandedFile]:
    described = feeds(*(globs or ("{day}/*.csv",)))
    return scan_landing(described, "labels", landing, FIRST, seen or {}, kept or {})


def register(files: list[LandedFile]) -> Seen:
    """What the register says after these files were ingested."""
    return {
        f.name: {
            "feed": f.feed.name,
            "day": f.arrived,
            "bytes": f.bytes,
            "modified_ns": f.modified_ns,
            "content_hash": f.content_hash,
            "copy_of": f.copy_of,
        }
        for f in files
    }


def test_a_file_arrived_on_the_day_in_its_path(tmp_path: Path) -> None:
    put(tmp_path, "2026-01-02/x.csv", "x")
    (file,) = scan(tmp_path)
    assert (file.name, file.arrived, file.bytes) == ("2026-01-02/x.csv", date(2026, 1, 2), 1)


def test_files_from_before_the_first_partition_are_left_alone(tmp_path: Path) -> None:
    put(tmp_path, "2025-12-31/x.csv", "x")
    assert scan(tmp_path) == []


def test_only_feeds_of_the_kind_asked_for_are_looked_at(tmp_path: Path) -> None:
    put(tmp_path, "2026-01-02/x.csv", "x")
    assert scan_landing(feeds("{day}/*.csv"), "transactions", tmp_path, FIRST, {}, {}) == []


def test_a_file_outside_the_landing_folder_is_called_by_its_whole_path(tmp_path: Path) -> None:
    path = put(tmp_path, "mount/2026-01-02.csv", "x")
    (file,) = scan(tmp_path / "landing", f"{tmp_path}/mount/{{day}}.csv")
    assert file.name == str(path)


def test_without_a_day_in_its_path_a_file_arrived_when_it_was_first_seen(tmp_path: Path) -> None:
    put(tmp_path, "x.csv", "x")
    before = datetime.now(UTC).date()
    (file,) = scan(tmp_path, "*.csv")
    assert before <= file.arrived <= datetime.now(UTC).date()
    earlier = file.arrived - timedelta(days=1)
    seen = register([file]) | {"x.csv": register([file])["x.csv"] | {"day": earlier}}
    assert scan(tmp_path, "*.csv", seen=seen)[0].arrived == earlier
    assert scan(tmp_path, "*.csv", kept={file.file_id: earlier})[0].arrived == earlier


def test_a_file_that_looks_as_recorded_is_not_read_again(tmp_path: Path) -> None:
    path = put(tmp_path, "2026-01-02/x.csv", "one")
    seen = register(scan(tmp_path))
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    path.write_text("two")
    os.utime(path, ns=times)
    assert scan(tmp_path, seen=seen)[0].content_hash == seen["2026-01-02/x.csv"]["content_hash"]


def test_a_file_with_another_time_or_size_is_read_again(tmp_path: Path) -> None:
    path = put(tmp_path, "2026-01-02/x.csv", "one")
    seen = register(scan(tmp_path))
    old = seen["2026-01-02/x.csv"]
    os.utime(path, ns=(0, old["modified_ns"] + 1))
    assert scan(tmp_path, seen=seen)[0].content_hash == old["content_hash"]
    path.write_text("longer")
    assert scan(tmp_path, seen=seen)[0].content_hash != old["content_hash"]


def test_of_files_with_one_content_the_first_to_arrive_counts(tmp_path: Path) -> None:
    put(tmp_path, "2026-01-03/a.csv", "same")
    put(tmp_path, "2026-01-02/b.csv", "same")
    put(tmp_path, "2026-01-02/c.csv", "other")
    copies = {file.name: file.copy_of for file in scan(tmp_path)}
    assert copies == {
        "2026-01-02/b.csv": None,
        "2026-01-02/c.csv": None,
        "2026-01-03/a.csv": "2026-01-02/b.csv",
    }


def test_the_same_content_means_something_else_to_another_feed(tmp_path: Path) -> None:
    put(tmp_path, "a/2026-01-03.csv", "same")
    put(tmp_path, "b/2026-01-03.csv", "same")
    files = scan(tmp_path, "a/{day}.csv", "b/{day}.csv")
    assert [file.copy_of for file in files] == [None, None]


def test_empty_files_are_no_copies(tmp_path: Path) -> None:
    put(tmp_path, "2026-01-03/a.csv", "")
    put(tmp_path, "2026-01-03/b.csv", "")
    assert [file.copy_of for file in scan(tmp_path)] == [None, None]


def test_a_copy_of_a_file_that_is_gone_stays_a_copy(tmp_path: Path) -> None:
    path = put(tmp_path, "2026-01-02/x.csv", "same")
    seen = register(scan(tmp_path))
    path.unlink()
    put(tmp_path, "2026-01-03/x.csv", "same")
    (file,) = scan(tmp_path, seen=seen)
    assert file.copy_of == "2026-01-02/x.csv"


def test_a_file_that_cannot_be_opened_is_found_and_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path, "2026-01-02/x.csv", "x")
    put(tmp_path, "2026-01-02/y.csv", "y")
    opened = Path.open

    def refuse(self: Path, *args: Any, **kwargs: Any) -> Any:
        if self == path:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(self, *args, **kwargs)

    with monkeypatch.context() as patch:  # root may read what permissions forbid
        patch.setattr(Path, "open", refuse)
        files = scan(tmp_path)
    assert [file.name for file in files] == ["2026-01-02/x.csv", "2026-01-02/y.csv"]
    again = scan(tmp_path, seen=register(files))
    assert again[0].content_hash != files[0].content_hash
    assert again[1].content_hash == files[1].content_hash


def test_the_id_of_a_file_is_that_of_its_feed_and_path(tmp_path: Path) -> None:
    path = put(tmp_path, "2026-01-02/x.csv", "one")
    put(tmp_path, "2026-01-02/y.csv", "one")
    before = {file.name: file.file_id for file in scan(tmp_path)}
    path.write_text("two")
    assert {file.name: file.file_id for file in scan(tmp_path)} == before
    assert len(set(before.values())) == 2
