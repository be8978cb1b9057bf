from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_assets.errors import BatchAssetsError
from batch_assets.inference.sequences.budgets import START_STEPS, Budgets
from batch_assets.inference.sequences.lengths import length_class, padded_length, row_step
from batch_assets.inference.tuning import Tuning

FEATURES = 16
LENGTHS = st.integers(0, 9000).map(padded_length)


def budgets(tuning: Tuning | None = None, memory: int = 2**30, fixed: int | None = None) -> Budgets:
    return Budgets(FEATURES, fixed, tuning, ("cpu", "fp32"), lambda: memory)


def settle(found: Budgets, length: int, seconds_a_step: dict[int, float]) -> None:
    """Batches of this length, as fast as is said for each budget, until nothing is left to try."""
    while not found.settled:
        asked, rows = found.ask(length)
        found.executed(length, rows, asked, rows * length * seconds_a_step.get(asked, 1.0))


@given(LENGTHS)
def test_the_first_batch_is_small(length: int) -> None:
    steps, rows = budgets().ask(length)
    assert steps == max(START_STEPS, length_class(length))
    assert rows * length <= steps or rows == row_step(length)


@pytest.mark.parametrize("length", [8, 72, 208, 288, 512])
def test_a_budget_grows_as_long_as_steps_a_second_do_though_batches_do_not_fill_it(
    length: int,
) -> None:
    found = budgets()
    found.ask(length)
    settle(found, length, {4096: 1.0, 8192: 0.8, 16_384: 0.7})
    assert found.steps == {length_class(length): 16_384}


def test_each_class_of_lengths_has_a_budget_of_its_own() -> None:
    found = budgets()
    found.ask(16)
    settle(found, 16, {8192: 0.5})
    found.ask(512)
    settle(found, 512, {})
    assert found.steps == {16: 8192, 512: 4096}


@given(LENGTHS, st.integers(1, 300))
def test_what_failed_is_never_allowed_again_and_halving_ends(length: int, times: int) -> None:
    found = budgets()
    rows = row_step(length) * times
    while rows > row_step(length):
        found.failed(length, rows)
        smaller = found.allowed(length, rows)
        assert smaller <= max(rows / 2, row_step(length))
        assert smaller % row_step(length) == 0
        assert found.ask(length)[1] < rows
        rows = smaller
    with pytest.raises(BatchAssetsError, match=f"Not even {rows} sequences of {length} steps"):
        found.failed(length, rows)


def test_what_was_found_is_kept_for_each_class_and_a_failure_until_memory_has_grown(
    tmp_path: Path,
) -> None:
    tuning = Tuning(tmp_path / "sizes.json", "m")
    first = budgets(tuning)
    first.ask(16)
    settle(first, 16, {8192: 0.5})
    first.ask(64)
    first.failed(64, 64)
    again = budgets(tuning)
    assert [again.ask(length)[0] for length in (16, 64, 512)] == [8192, 2048, START_STEPS]
    assert again.allowed(64, 64) < 64
    roomier = budgets(tuning, memory=2**31)
    assert roomier.allowed(64, 64) == 64


def test_a_fixed_budget_stays_and_is_not_kept(tmp_path: Path) -> None:
    tuning = Tuning(tmp_path / "sizes.json", "m")
    fixed = budgets(tuning, fixed=1024)
    assert fixed.ask(16) == (1024, 64)
    fixed.executed(16, 64, 1024, 1.0)
    assert fixed.ask(16) == (1024, 64)
    assert fixed.settled
    assert not (tmp_path / "sizes.json").exists()


def test_more_features_than_usual_leave_room_for_fewer_steps() -> None:
    wide = Budgets(2**14, None, None, ("cpu", "fp32"), lambda: 2**30)
    asked = {wide.ask(16)[0] for _ in range(3)}
    assert max(asked) * 2**14 * np.float32().nbytes <= 64 * 2**20
