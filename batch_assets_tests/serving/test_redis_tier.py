"""Redis saves reads of the store, and can neither make an answer wrong nor hold it up."""

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis

from batch_assets.serving import redis_tier
from batch_assets.serving.hot import HotRows
from batch_assets.serving.lookup import Lookups
from batch_assets.serving.redis_tier import RedisTier
from batch_assets_tests.serving.library import LOANS, Library, day_number

SERVER = shutil.which("redis-server") or shutil.which("valkey-server")


@contextmanager
def running(folder: Path) -> "Iterator[tuple[str, subprocess.Popen[bytes]]]":
    """A server of its own on a socket below ``folder``; its address and process."""
    assert SERVER, "apt-get install redis-server"
    path = Path(folder, "redis.sock")
    process = subprocess.Popen(
        [SERVER, "--port", "0", "--unixsocket", path, "--save", "", "--dir", folder],
        stdout=subprocess.DEVNULL,
    )
    try:
        with Redis(unix_socket_path=str(path)) as client:
            for _ in range(1_000):
                if path.exists() and _answers(client):
                    break
                assert process.poll() is None
                threading.Event().wait(0.01)
        yield f"unix://{path}", process
    finally:
        process.kill()
        process.wait()


def _answers(client: "Redis") -> bool:
    try:
        return bool(client.ping())
    except OSError:
        return False
    except Exception:
        return False


@pytest.fixture
def library(tmp_path: Path) -> Library:
    made = Library(tmp_path / "home", memory=1_000)
    for n in range(3):
        made.publish(day_number(n), 30, "aa")
    made.loaded()
    return made


def wanted(library: Library) -> dict[str, object]:
    return {row["loan"]: row for rows in library.published.values() for row in rows}


def answers(library: Library, lookups: Lookups) -> tuple[dict[str, object], set[str]]:
    found = lookups.from_store(library.view, [*wanted(library)])
    return {str(key): one.row for key, one in found.items()}, {f.source for f in found.values()}


def patient(url: str) -> RedisTier:
    """A tier that waits for a loaded machine."""
    return RedisTier(url, LOANS, timeout=30.0)


def test_a_second_server_reads_from_redis_what_the_first_one_read(
    library: Library, tmp_path: Path
) -> None:
    with running(tmp_path) as (url, _):
        first = patient(url)
        assert answers(library, Lookups(library, first)) == (wanted(library), {"store"})
        first.stop()
        second = patient(url)
        lookups = Lookups(library, second)
        lookups.hot = HotRows(1_000_000)
        assert answers(library, lookups) == (wanted(library), {"redis"})
        hot = {key: lookups.in_memory(library.view, key) for key in wanted(library)}
        assert {key: one.row for key, one in hot.items() if one} == wanted(library)
        assert not second.get({(day_number(0), "other"): ["0301-1"]})
        second.stop()


def test_a_replaced_day_is_dropped_and_all_hashes_expire(library: Library, tmp_path: Path) -> None:
    with running(tmp_path) as (url, _), Redis.from_url(url) as client:
        tier = patient(url)
        lookups = Lookups(library, tier)
        answers(library, lookups)
        library.publish(day_number(1), 30, "bb")
        library.loaded()
        found, _ = answers(library, lookups)
        assert found == wanted(library)
        tier.stop()
        names = sorted(client.keys())
        assert [name.decode().rsplit(":", 1)[1] for name in names] == ["aa0301", "bb0302", "aa0303"]
        assert all(client.ttl(name) > 0 for name in names)


@pytest.mark.parametrize("content", [b"", b"\xff", b"\x90", b"\xc0", b"no row at all"])
def test_what_redis_holds_is_not_believed(library: Library, tmp_path: Path, content: bytes) -> None:
    with running(tmp_path) as (url, _), Redis.from_url(url) as client:
        name = f"batch_assets:1:loans:{day_number(0)}:aa0301"
        client.hset(name, "0301-1", content)
        tier = patient(url)
        row = Lookups(library, tier).from_store(library.view, ["0301-1"])["0301-1"]
        assert (row.source, row.row) == ("store", wanted(library)["0301-1"])
        tier.stop()


def test_a_row_under_another_key_is_not_given(library: Library, tmp_path: Path) -> None:
    with running(tmp_path) as (url, _), Redis.from_url(url) as client:
        tier = patient(url)
        Lookups(library, tier).from_store(library.view, ["0301-1"])
        tier.stop()
        name = f"batch_assets:1:loans:{day_number(0)}:aa0301"
        client.hset(name, "0301-2", client.hget(name, "0301-1"))
        tier = patient(url)
        row = Lookups(library, tier).from_store(library.view, ["0301-2"])["0301-2"]
        assert (row.source, row.row) == ("store", wanted(library)["0301-2"])
        tier.stop()


def test_long_rows_are_not_kept(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_tier, "MOST_BYTES", 10)
    with running(tmp_path) as (url, _), Redis.from_url(url) as client:
        tier = patient(url)
        answers(library, Lookups(library, tier))
        tier.stop()
        assert client.keys() == []


def test_answers_go_on_when_redis_is_killed(library: Library, tmp_path: Path) -> None:
    with running(tmp_path) as (url, process):
        tier = patient(url)
        lookups = Lookups(library, tier)
        answers(library, lookups)
        process.kill()
        process.wait()
        assert answers(library, lookups) == (wanted(library), {"store"})
        assert tier.breaker.open
        assert answers(library, lookups) == (wanted(library), {"store"})
        tier.stop()


def test_redis_is_asked_again_when_it_is_back(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_tier, "PAUSE_SECONDS", 0.0)
    tier = patient(f"unix://{tmp_path / 'redis.sock'}")
    lookups = Lookups(library, tier)
    assert answers(library, lookups) == (wanted(library), {"store"})
    assert tier.breaker.open
    with running(tmp_path):
        assert answers(library, lookups) == (wanted(library), {"store"})
        assert tier.counts["failed"] == 1
        tier.stop()
        tier = patient(f"unix://{tmp_path / 'redis.sock'}")
        assert answers(library, Lookups(library, tier)) == (wanted(library), {"redis"})
        tier.stop()


def test_a_server_that_never_answers_holds_nothing_up(library: Library) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        tier = RedisTier(f"redis://127.0.0.1:{mute.getsockname()[1]}/0", LOANS, timeout=0.05)
        lookups = Lookups(library, tier)
        assert answers(library, lookups) == (wanted(library), {"store"})
        assert tier.breaker.open
        before = tier.counts["failed"]
        started = time.monotonic()
        asked = {(day_number(0), "aa0301"): ["0301-1"]}
        tries = sum(tier.breaker.allows() for _ in range(1_000))
        assert tries <= 2 + (time.monotonic() - started) / redis_tier.PAUSE_SECONDS
        assert tier.get(asked) == {}
        assert tier.counts["failed"] <= before + 1
        tier.stop()
