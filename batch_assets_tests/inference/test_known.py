"""Keys depend on all of a row's bytes and on nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from batch_assets.inference.known import FirstOf, Keys, first_of_each, row_keys

MATRICES = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=40))


def random_rows(count: int, features: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, features), dtype=np.float32)


def bits(keys: Keys) -> np.ndarray:
    return np.unpackbits(np.ascontiguousarray(keys).view(np.uint8), axis=1)


def distinct(keys: Keys) -> int:
    return len({key.tobytes() for key in keys})


def distinct_numbers(numbers: np.ndarray) -> int:
    return 1 + int(np.count_nonzero(np.diff(np.sort(numbers))))


@pytest.mark.parametrize("features", [1, 2, 15, 16, 17, 33, 64])
def test_a_key_does_not_depend_on_how_rows_are_cut_or_laid_out(features: int) -> None:
    rows = random_rows(20_000, features)
    keys = row_keys(rows, "salt")
    cut = [row_keys(part, "salt") for part in np.array_split(rows, [1, 777, 8_192, 8_193, 16_000])]
    assert np.array_equal(keys, np.concatenate(cut))
    assert np.array_equal(keys, row_keys(np.asfortranarray(rows), "salt"))
    assert np.array_equal(keys[::3], row_keys(rows[::3], "salt"))


def test_keys_are_what_they_were() -> None:
    """Keys are kept on disk: a change of the function needs a change of what is kept."""
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert row_keys(rows, "a model").tolist() == [
        [0x27389BDFE2DF2574, 0xCFEFFACD884FB12C],
        [0x162BDC3A3BD1BD7F, 0x9231B9C2ADF03C72],
    ]


@settings(deadline=None)
@given(MATRICES)
def test_equal_bytes_and_equal_keys_are_the_same(rows: np.ndarray) -> None:
    keys = row_keys(rows, "")
    contents = [row.tobytes() for row in rows]
    for i, one in enumerate(contents):
        for j, other in enumerate(contents):
            assert (one == other) == bool((keys[i] == keys[j]).all())


@pytest.mark.parametrize("features", [1, 2, 15, 37])
def test_one_bit_changes_half_of_the_key(features: int) -> None:
    """Each bit of a row, on average over rows: 64 of 128 bits, and each bit of the key."""
    rows = random_rows(500, features)
    before = bits(row_keys(rows, "salt"))
    worst_bit = []
    for bit in range(32 * features):
        changed = rows.view(np.uint32).copy()
        changed[:, bit // 32] ^= np.uint32(1 << bit % 32)
        differs = bits(row_keys(changed.view(np.float32), "salt")) != before
        assert abs(differs.sum(axis=1).mean() - 64) < 2.0, bit
        worst_bit.append(np.abs(differs.mean(axis=0) - 0.5).max())
    assert max(worst_bit) < 0.15  # six sigma of 500 coins are 0.134


def test_nearly_equal_rows_have_as_many_keys_as_chance_would_give() -> None:
    """Counters, small integers and flipped signs, where weak hashes fail."""
    steps = np.arange(1_000_000, dtype=np.uint32)
    last_bits = np.ones((len(steps), 15), dtype=np.float32)
    last_bits[:, 3] = (steps + np.uint32(0x3F800000)).view(np.float32)
    digits = np.stack([steps // 10 ** (k % 6) % 10 for k in range(15)], axis=1).astype(np.float32)
    signs = np.where(steps[:, None] >> np.arange(20) & 1, np.float32(1), np.float32(-1))
    for rows in (last_bits, digits, signs):
        keys = row_keys(np.ascontiguousarray(rows, dtype=np.float32), "salt")
        assert distinct_numbers(keys[:, 0]) == distinct_numbers(keys[:, 1]) == len(steps)
        # By chance, 32 bits have 116 equal ones among a million; 60 more are six sigma.
        for quarter in (keys & 0xFFFFFFFF, keys >> 32):
            for lane in range(2):
                assert distinct_numbers(quarter[:, lane]) > len(steps) - 180


def test_the_two_halves_are_independent() -> None:
    keys = bits(row_keys(random_rows(20_000, 15), "salt")).astype(float)
    correlation = np.corrcoef(keys[:, :64].T, keys[:, 64:].T)[:64, 64:]
    assert np.abs(correlation).max() < 6 / np.sqrt(20_000)


def test_salt_order_and_number_of_features_change_the_key() -> None:
    rows = random_rows(1_000, 14)
    wider = np.concatenate([rows, np.zeros((1_000, 1), np.float32)], axis=1)
    keys = [
        row_keys(rows, "model 1"),
        row_keys(rows, "model 2"),
        row_keys(rows[:, ::-1], "model 1"),
        row_keys(wider, "model 1"),
        row_keys(np.concatenate([wider, wider[:, :1] * 0], axis=1), "model 1"),
    ]
    assert distinct(np.concatenate(keys)) == 5_000
    changed = (bits(keys[0]) != bits(keys[1])).mean()
    assert abs(changed - 0.5) < 0.01


def test_zeros_and_nans_go_by_their_bytes() -> None:
    nans = np.array([0x7FC00000, 0x7FC00001, 0xFFC00000], dtype=np.uint32).view(np.float32)
    rows = np.concatenate([[0.0, -0.0], nans]).astype(np.float32)[:, None]
    assert distinct(row_keys(rows, "")) == 5


def test_only_float32_is_hashed() -> None:
    with pytest.raises(TypeError, match="float64"):
        row_keys(np.zeros((2, 2)), "")


def test_no_rows_and_no_features() -> None:
    assert row_keys(np.empty((0, 3), np.float32), "").shape == (0, 2)
    assert distinct(row_keys(np.empty((3, 0), np.float32), "")) == 1


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), max_size=60))
def test_rows_of_equal_keys_are_computed_once(values: list[int]) -> None:
    rows = np.array(values, dtype=np.float32)[:, None]
    first, same_as = first_of_each(row_keys(rows, ""))
    assert len(first) == len(set(values))
    assert first.tolist() == [values.index(value) for value in dict.fromkeys(values)]
    assert np.array_equal(rows[first][same_as], rows)


class InMemory:
    """Results by key."""

    def __init__(self) -> None:
        self.rows: dict[bytes, float] = {}

    def find(self, keys: Keys) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        known = np.array([key.tobytes() in self.rows for key in keys], dtype=bool)
        scores = np.array([self.rows[key.tobytes()] for key in keys[known]], dtype=np.float32)
        return known, scores, scores[:, None] * 2

    def keep(self, keys: Keys, scores: np.ndarray, vectors: np.ndarray) -> None:
        self.rows.update({key.tobytes(): score for key, score in zip(keys, scores, strict=True)})


@settings(deadline=None)
@given(st.sets(st.integers(0, 9)), st.sets(st.integers(0, 9)), st.permutations(range(10)))
def test_what_one_place_does_not_know_another_may(
    first: set[int], second: set[int], asked: list[int]
) -> None:
    values = np.arange(10, dtype=np.float32)
    keys = row_keys(values[:, None], "")
    places = InMemory(), InMemory()
    for place, there in zip(places, (sorted(first), sorted(second)), strict=True):
        place.keep(keys[there], values[there], values[there, None] * 2)
    known, scores, vectors = FirstOf(*places).find(keys[asked])
    assert known.tolist() == [value in first | second for value in asked]
    assert scores.tolist() == [value for value in asked if value in first | second]
    assert vectors[:, :1].ravel().tolist() == (scores * 2).tolist()
    FirstOf(*places).keep(keys, values, values[:, None] * 2)
    assert len(places[0].rows) == len(places[1].rows) == 10
