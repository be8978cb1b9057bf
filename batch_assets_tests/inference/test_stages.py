import gc
import threading
import traceback
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_assets.inference.stages import ahead, timed


def no_one(seconds: float) -> None:
    """Nobody counts these seconds."""


def stage_threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name.startswith("batch_assets")]


def bounded(source: Iterator[int], limit: int = 3) -> Iterator[int]:
    return ahead(source, size=lambda item: 1, limit=limit, blocked=no_one)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers()), st.integers(0, 5), st.integers(0, 3))
def test_all_items_come_in_order_through_any_number_of_stages(
    items: list[int], limit: int, stages: int
) -> None:
    source = iter(items)
    for _ in range(stages):
        source = bounded(source, limit)
    assert list(source) == items
    assert stage_threads() == []


def test_no_more_bytes_wait_than_allowed() -> None:
    made: list[int] = []
    taken: list[int] = []
    full = threading.Event()

    def source() -> Iterator[int]:
        for size in [10, 20, 30, 40, 500, 60]:
            made.append(size)
            yield size

    def blocked(seconds: float) -> None:
        full.set()

    for size in ahead(source(), size=lambda item: item, limit=50, blocked=blocked):
        taken.append(size)
        # Waiting: at most 50 bytes, or one item; and one more in the thread's hand.
        waiting = made[len(taken) : -1]
        assert sum(waiting) <= 50 or len(waiting) == 1
    assert taken == made == [10, 20, 30, 40, 500, 60]
    assert full.is_set()


def failing(after: int) -> Iterator[int]:
    yield from range(after)
    raise ValueError("the source is broken")


@pytest.mark.parametrize("after", [0, 1, 10])
def test_an_error_comes_once_after_the_items_before_it_and_says_where(after: int) -> None:
    stages = bounded(bounded(failing(after)))
    items: list[int] = []
    with pytest.raises(ValueError, match="the source is broken") as caught:
        items.extend(stages)
    assert items == list(range(after))
    assert "failing" in [frame.name for frame in traceback.extract_tb(caught.tb)]
    assert caught.value.__cause__ is None
    assert stage_threads() == []
    assert list(stages) == []


@pytest.mark.parametrize("how", ["close", "error", "forget"])
def test_a_consumer_that_ends_early_leaves_no_thread_and_closes_the_source(how: str) -> None:
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            number = 0
            while True:
                yield number
                number += 1
        finally:
            closed.set()

    stages = bounded(bounded(endless()))
    assert next(stages) == 0
    if how == "close":
        stages.close()  # type: ignore[attr-defined]
    elif how == "error":
        with pytest.raises(KeyError):
            stages.throw(KeyError("consumer"))  # type: ignore[attr-defined]
    else:
        del stages
        gc.collect()
    assert closed.is_set()
    assert stage_threads() == []


def test_stages_that_were_never_begun_have_no_threads() -> None:
    stages = bounded(failing(0))
    assert stage_threads() == []
    del stages


def test_each_wait_for_an_item_is_counted() -> None:
    spent: list[float] = []
    assert list(timed(iter("abc"), spent.append)) == ["a", "b", "c"]
    assert len(spent) == 4
    assert min(spent) >= 0
