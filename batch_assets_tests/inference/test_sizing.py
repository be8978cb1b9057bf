from collections.abc import Iterator
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_assets.errors import BatchAssetsError
from batch_assets.inference.sizing import ROW_STEP, START_ROWS, BatchSizer, Learned, half_of

LARGEST = 65_536
SIZES = [ROW_STEP * 2**power for power in range(9)]
NOTHING = cycle([1.0])


def seconds(rows: int, fastest: int) -> float:
    """A device whose rows a second grow with the batch up to a size, then fall slowly."""
    return rows / min(rows, fastest) * (1.0 + max(0, rows - fastest) / LARGEST)


def settle(sizer: BatchSizer, fastest: int, slower: Iterator[float] = NOTHING) -> list[int]:
    """The sizes that it asks for until it settles."""
    asked = []
    while not sizer.settled:
        asked.append(sizer.next_rows())
        sizer.executed(asked[-1], seconds(asked[-1], fastest) * next(slower))
    return asked


@pytest.mark.parametrize("fastest", SIZES[1:])
def test_the_size_grows_as_long_as_rows_a_second_do(fastest: int) -> None:
    sizer = BatchSizer(LARGEST)
    asked = settle(sizer, fastest)
    assert sizer.next_rows() == fastest
    assert sizer.learned == Learned(fastest, settled=True)
    assert asked[0] == START_ROWS
    assert set(asked) == {size for size in SIZES if START_ROWS <= size <= 4 * fastest}


@given(st.sampled_from(SIZES[1:]), st.lists(st.floats(5, 500), min_size=1, max_size=20))
def test_bursts_of_other_work_do_not_decide(fastest: int, bursts: list[float]) -> None:
    slower = cycle([factor for burst in bursts for factor in [1.0] * 16 + [burst]])
    sizer = BatchSizer(LARGEST)
    settle(sizer, fastest, slower)
    assert sizer.learned.rows == fastest


def test_a_size_that_is_no_better_does_not_hide_a_larger_one_that_is() -> None:
    sizer = BatchSizer(LARGEST)
    while not sizer.settled:
        rows = sizer.next_rows()
        sizer.executed(rows, rows / {512: 1.0, 1024: 1.01, 2048: 1.2}.get(rows, 1.0))
    assert sizer.learned.rows == 2048


@given(
    st.sampled_from(SIZES),
    st.integers(2, 300),
    st.sampled_from([None, *SIZES]),
    st.lists(st.integers(1, LARGEST), max_size=300),
)
def test_no_shape_that_failed_is_tried_again_and_none_twice_what_ran(
    fastest: int, fits: int, start: int | None, tails: list[int]
) -> None:
    """``fits`` is how many times 256 rows fit into memory, ``tails`` how many rows are left."""
    learned = Learned(start, settled=True) if start else None
    sizer = BatchSizer(LARGEST, learned)
    failed, executed = 10 * LARGEST, start or ROW_STEP
    for tail in tails:
        rows = min(sizer.next_rows(), tail + -tail % ROW_STEP)
        assert rows < failed
        assert rows <= 2 * executed
        while rows > fits * ROW_STEP:
            failed = rows
            sizer.failed(rows)
            rows = min(rows, sizer.next_rows())
            assert rows <= failed / 2
        executed = max(executed, rows)
        sizer.executed(rows, seconds(rows, fastest))
    if failed < LARGEST:
        assert sizer.learned.too_large == failed
        assert sizer.learned.rows < failed


def test_what_was_learned_goes_on_where_it_was() -> None:
    assert BatchSizer(LARGEST, Learned(4096, settled=True)).next_rows() == 4096
    unsettled = BatchSizer(LARGEST, Learned(4096))
    assert set(settle(unsettled, 8192)) == {4096, 8192, 16_384, 32_768}
    assert unsettled.learned.rows == 8192
    limited = BatchSizer(LARGEST, Learned(4096, too_large=8192))
    assert limited.settled
    assert limited.next_rows() == 4096
    assert BatchSizer(1024, Learned(4096, settled=True)).next_rows() == 1024


@given(st.integers(ROW_STEP, 10**7))
def test_half_is_a_power_of_two_times_256(rows: int) -> None:
    half = half_of(rows)
    assert half % ROW_STEP == 0
    assert (half // ROW_STEP).bit_count() == 1
    assert half <= rows / 2 or half == ROW_STEP
    assert half * 4 > rows


def test_memory_for_less_than_256_rows_is_an_error_that_says_so() -> None:
    with pytest.raises(BatchAssetsError, match="Not even 256 rows"):
        BatchSizer(LARGEST).failed(ROW_STEP)
