"""A file of results gives what was written, or nothing."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch_assets.inference.known import Keys
from batch_assets.inference.segments import (
    DamagedSegment,
    Segment,
    Unwritten,
    file_bytes,
    look_up,
    pack,
    unpack,
    write_segment,
)

ROWS, SIZE = 50, 3


def results(count: int, size: int, seed: int = 0) -> tuple[Keys, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    keys = random.integers(0, 2**64, (count, 2), dtype=np.uint64)
    vectors = random.standard_normal((count, size + 1), dtype=np.float32)
    return keys, vectors[:, 0].copy(), vectors[:, 1:].copy()


def in_order(keys: Keys) -> np.ndarray:
    order: np.ndarray = np.argsort(keys[:, 0])
    return order


@pytest.mark.parametrize(("count", "size"), [(1, 0), (1, 1), (1_000, 7), (20_000, 64)])
def test_rows_come_back_whichever_are_asked_for(tmp_path: Path, count: int, size: int) -> None:
    keys, scores, vectors = results(count, size)
    segment = Segment(write_segment(tmp_path, pack(keys, scores, vectors)))
    assert segment.path.stat().st_size == segment.bytes == file_bytes(count, size)
    for chosen in (slice(None), slice(None, None, 97), slice(count // 2, count // 2 + 3)):
        for part in (segment, Unwritten(keys, scores, vectors)):
            asked = keys[chosen]
            found, records = look_up(part, asked, in_order(asked))
            assert sorted(found.tolist()) == list(range(len(asked)))
            got_scores, got_vectors = unpack(records)
            assert np.array_equal(got_scores, scores[chosen][found])
            assert np.array_equal(got_vectors, vectors[chosen][found])


def test_bits_of_nan_and_of_negative_zero_come_back(tmp_path: Path) -> None:
    bits = np.array([0x7FC00001, 0x80000000, 0xFF800000], dtype=np.uint32)
    keys, _, _ = results(3, 0)
    values = bits.view(np.float32)
    segment = Segment(write_segment(tmp_path, pack(keys, values, values[:, None])))
    scores, vectors = unpack(segment.records(np.arange(3)))
    assert np.array_equal(scores.view(np.uint32), bits)
    assert np.array_equal(np.ascontiguousarray(vectors).view(np.uint32)[:, 0], bits)


def test_half_of_a_key_is_not_enough(tmp_path: Path) -> None:
    keys, scores, vectors = results(ROWS, SIZE)
    segment = Segment(write_segment(tmp_path, pack(keys, scores, vectors)))
    others = keys.copy()
    others[:, 1] += np.uint64(1)
    assert len(look_up(segment, others, in_order(others))[0]) == 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(length=st.integers(0, file_bytes(ROWS, SIZE) - 1))
def test_a_torn_file_is_refused(tmp_path: Path, length: int) -> None:
    path = write_segment(tmp_path, pack(*results(ROWS, SIZE)))
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DamagedSegment):
        Segment(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    at=st.integers(0, file_bytes(ROWS, SIZE) - 1),
    length=st.integers(1, 200),
    value=st.integers(0, 255),
)
def test_whatever_bytes_rot_no_wrong_row_is_given(
    tmp_path: Path, at: int, length: int, value: int
) -> None:
    keys, scores, vectors = results(ROWS, SIZE)
    path = write_segment(tmp_path, pack(keys, scores, vectors))
    content = bytearray(path.read_bytes())
    length = min(length, len(content) - at)
    same = content[at : at + length] == bytes([value]) * length
    content[at : at + length] = bytes([value]) * length
    path.write_bytes(content)
    try:
        found, records = look_up(Segment(path), keys, in_order(keys))
    except DamagedSegment:
        assert not same
        return
    assert same
    got_scores, got_vectors = unpack(records)
    assert np.array_equal(got_scores, scores[found])
    assert np.array_equal(got_vectors, vectors[found])


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Not a directory"):
        write_segment(tmp_path / "file", pack(*results(ROWS, SIZE)))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
