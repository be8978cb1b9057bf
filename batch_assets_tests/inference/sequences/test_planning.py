from collections.abc import Callable

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from batch_assets.inference.sequences.lengths import padded_length, rows_within
from batch_assets.inference.sequences.planning import Part, plan
from batch_assets.inference.sequences.windows import Window

BUDGET = 2048
LENGTHS = st.lists(st.integers(0, 700), max_size=300)


def window(lengths: list[int], costs: list[float] | None = None) -> Window:
    n = len(lengths)
    return Window(
        pa.record_batch({"n": range(n)}),
        np.array(lengths, dtype=np.int64),
        None if costs is None else np.array(costs, dtype=np.float64),
        lambda index: np.empty((0, 1), np.float32),
        np.empty(n, np.float32),
        np.empty((n, 1), np.float32),
    )


def ask(budget: int) -> Callable[[int], tuple[int, int]]:
    return lambda length: (budget, rows_within(budget, length))


@given(LENGTHS, st.booleans(), st.sampled_from([256, BUDGET, 2**16]))
def test_each_sequence_is_in_one_batch_of_its_padded_length_within_the_budget(
    lengths: list[int], decoded: bool, budget: int
) -> None:
    costs = [float(place % 7) ** 5 for place in range(len(lengths))] if decoded else None
    parts = list(plan(window(lengths, costs), ask(budget)))
    picked = [int(index) for part in parts for index in part.picked]
    assert sorted(picked) == list(range(len(lengths)))
    for part in parts:
        assert {padded_length(lengths[index]) for index in part.picked} == {part.length}
        allowed = rows_within(budget, part.length)
        assert len(part.picked) <= part.rows <= allowed
        assert part.rows * part.length % 256 == 0
        assert part.full == (len(part.picked) == allowed)


@given(LENGTHS)
def test_the_longest_come_first(lengths: list[int]) -> None:
    order = [part.length for part in plan(window(lengths), ask(BUDGET))]
    assert order == sorted(order, reverse=True)


def shares(parts: list[Part], costs: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """How far host and device are after each batch, of all that they have to do."""
    host = np.cumsum([sum(costs[index] for index in part.picked) for part in parts])
    device = np.cumsum([part.length * len(part.picked) for part in parts])
    return host / host[-1], device / device[-1]


def test_what_is_heavy_for_the_host_is_spread_over_what_is_heavy_for_the_device() -> None:
    # As they come: first all that take long to decode, then all that take long to compute.
    lengths, costs = [8] * 2000 + [256] * 500, [50.0] * 2000 + [1.0] * 500
    parts = list(plan(window(lengths, costs), ask(BUDGET)))
    host, device = shares(parts, costs)
    assert parts[0].length == 256
    assert np.abs(host - device).max() < 0.05
    # Without costs the device has most of its work behind it before the host has begun.
    host, device = shares(list(plan(window(lengths), ask(BUDGET))), costs)
    assert np.abs(host - device).max() > 0.8


def test_sizes_are_asked_for_batch_by_batch() -> None:
    budgets = iter([512, 1024, 1024, 4096])
    parts = plan(window([16] * 300), lambda length: (b := next(budgets), rows_within(b, length)))
    assert [len(part.picked) for part in parts] == [32, 64, 64, 140]
