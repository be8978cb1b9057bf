"""API keys: what is kept of them, and how often each may ask."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_assets.errors import BatchAssetsError
from batch_assets.serving.security import Bucket, KeyFile, Keys


def keys_command(home: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "batch_assets", "keys", *words],
        env={**os.environ, "BATCH_ASSETS_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_key_is_shown_once_and_kept_as_a_hash(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    key, token = file.create("bank", ["score", "read"])
    assert key.scopes == ("read", "score")
    assert token not in file.path.read_text()
    assert token.rpartition("_")[2] not in file.path.read_text()
    assert file.read() == [key]
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_a_key_is_found_by_its_whole_text_alone(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    key, token = file.create("", ["read"])
    other, other_token = file.create("", ["read"])
    keys = Keys(file, 10)
    assert keys.find(token) == key
    assert keys.find(other_token) == other
    secret, other_secret = (one.split("_", 2)[2] for one in (token, other_token))
    for wrong in (
        "",
        token[:-1],
        token + "x",
        token.upper(),
        secret,
        f"ba_{key.id}_{other_secret}",
        f"ba_{other.id}_{secret}",
        f"ba_{key.id}_",
    ):
        assert keys.find(wrong) is None


@given(st.text())
def test_no_text_is_a_key(text: str) -> None:
    assert Keys(KeyFile(Path("nowhere")), 10).find(text) is None


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    file.path.write_text("[{}]")
    with pytest.raises(BatchAssetsError, match="delete it and create the keys again"):
        file.read()


@given(
    st.integers(1, 1_000),
    st.lists(st.floats(0, 2, allow_nan=False), min_size=1, max_size=300),
)
def test_a_key_asks_at_most_its_rate_and_a_seconds_worth_at_once(
    rate: int, gaps: list[float]
) -> None:
    bucket, now, let_through = Bucket(rate), 100.0, 0
    for gap in gaps:
        now += gap
        wait = bucket.take(now)
        assert 0 <= wait <= 1 / rate + 1e-9
        let_through += wait == 0
    assert let_through <= rate + rate * sum(gaps[1:]) + 1


@given(st.integers(1, 1_000), st.integers(0, 50))
def test_who_waits_as_told_may_ask(rate: int, extra: int) -> None:
    bucket, now = Bucket(rate), 5.0
    while (wait := bucket.take(now)) == 0:
        pass
    assert bucket.take(now + wait + 1e-6 + extra) == 0


def test_the_command_line_makes_lists_and_revokes_keys(tmp_path: Path) -> None:
    made = keys_command(tmp_path, "create", "--scope", "read", "--scope", "score", "--name", "bank")
    token = made.stdout.strip()
    assert made.returncode == 0
    assert token.startswith("ba_")
    listed = keys_command(tmp_path, "list", "--json")
    (shown,) = json.loads(listed.stdout)
    assert shown["name"] == "bank"
    assert shown["scopes"] == ["read", "score"]
    assert token not in listed.stdout
    assert "bank" in keys_command(tmp_path, "list").stdout
    assert keys_command(tmp_path, "revoke", shown["id"]).returncode == 0
    assert json.loads(keys_command(tmp_path, "list", "--json").stdout) == []
    again = keys_command(tmp_path, "revoke", shown["id"])
    assert again.returncode == 1
    assert "there is no API key" in again.stderr
    assert keys_command(tmp_path, "create").returncode == 2
    assert keys_command(tmp_path, "create", "--scope", "write").returncode == 2


def test_known_keys_go_on_to_count_when_the_file_gets_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batch_assets.serving.security.LOOK_AGAIN_SECONDS", 0.0)
    file = KeyFile(tmp_path)
    key, token = file.create("", ["read"])
    keys = Keys(file, 10)
    file.path.write_text("{")
    assert keys.find(token) == key
