import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from batch_assets.inference.sequences.lengths import (
    length_class,
    padded_length,
    padded_lengths,
    row_step,
    rows_within,
)

LENGTHS = st.integers(0, 100_000)
PADDED = LENGTHS.map(padded_length)


@given(LENGTHS)
def test_padding_adds_at_most_three_steps_or_an_eighth(length: int) -> None:
    padded = padded_length(length)
    assert length <= padded < max(length + 4, length * 9 / 8) or padded == 4
    assert padded_length(padded) == padded
    assert length_class(padded) == length_class(length)


@given(st.lists(LENGTHS))
def test_a_longer_sequence_is_never_padded_to_less(lengths: list[int]) -> None:
    padded = padded_lengths(np.array(sorted(lengths), dtype=np.int64))
    assert padded.tolist() == sorted(map(padded_length, lengths))


@given(PADDED, st.integers(256, 10**6))
def test_a_batch_keeps_to_its_budget_in_multiples_of_256_steps(length: int, budget: int) -> None:
    rows = rows_within(budget, length)
    assert rows * length % 256 == 0
    assert rows * length <= budget or rows == row_step(length)


@given(PADDED)
def test_the_smallest_batch_is_as_small_as_256_steps_allow(length: int) -> None:
    fitting = [rows for rows in range(1, 257) if rows * length % 256 == 0]
    assert row_step(length) == fitting[0]
    assert row_step(length) * length < max(4096, 2 * length + 1)
