"""A filter never denies a key that is there, and survives a restart or is made anew."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_assets.serving.bloom import FilterFolder, filter_bytes, filter_of
from batch_assets.serving.hashes import hash_of, hashes_of


@given(st.sets(st.text(max_size=20)))
def test_every_key_is_known(keys: set[str]) -> None:
    known = filter_of(hashes_of(pa.array(sorted(keys), pa.string())))
    assert all(hash_of(key) in known for key in keys)


def test_few_others_are_taken_for_known_and_a_row_takes_under_three_bytes() -> None:
    known = filter_of(hashes_of(pa.array([f"a{n}" for n in range(20_000)])))
    taken = sum(hash_of(f"b{n}") in known for n in range(100_000))
    assert taken < 40  # 10 are expected
    assert filter_bytes(known) < 3 * 20_000


def test_a_filter_is_the_same_after_a_restart(tmp_path: Path) -> None:
    hashes = hashes_of(pa.array([f"a{n}" for n in range(1_000)]))
    FilterFolder(tmp_path / "new").keep("k1", filter_of(hashes))
    again = FilterFolder(tmp_path / "new").load("k1")
    assert again == filter_of(hashes)
    assert FilterFolder(tmp_path / "new").load("k2") is None


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other"])
def test_a_damaged_file_counts_as_missing(tmp_path: Path, damage: str) -> None:
    folder = FilterFolder(tmp_path)
    folder.keep("k1", filter_of(np.arange(1_000, dtype=np.uint64)))
    path = tmp_path / "k1.bloom"
    content = bytearray(path.read_bytes())
    content[50] ^= 1
    path.write_bytes(
        {
            "cut": path.read_bytes()[:-1],
            "flipped": bytes(content),
            "empty": b"",
            "other": b"PAR1" * 10,
        }[damage]
    )
    assert folder.load("k1") is None


def test_filters_of_days_that_are_gone_are_removed(tmp_path: Path) -> None:
    folder = FilterFolder(tmp_path)
    for key in ("k1", "k2", "k3"):
        folder.keep(key, filter_of(np.arange(10, dtype=np.uint64)))
    folder.forget_others({"k2", "k9"})
    assert [path.name for path in tmp_path.iterdir()] == ["k2.bloom"]


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    folder = FilterFolder(tmp_path / "file")
    folder.keep("k1", filter_of(np.arange(10, dtype=np.uint64)))
    assert folder.load("k1") is None
