"""A key is found if it is there, and only then; what is found is what was stored."""

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_assets.serving import blocks
from batch_assets.serving.blocks import DayBlock, KeyIndex
from batch_assets_tests.serving.library import PREDICTIONS, day_number, loans_of

KEYS = st.sets(st.text(max_size=5), max_size=30)


def block_of(day: date, rows: Sequence[dict[str, Any]]) -> DayBlock:
    table = pa.Table.from_pylist(list(rows), schema=PREDICTIONS.schema)
    return DayBlock(PREDICTIONS, day, "k", table, "loan", ["reader", "shelf"])


def block_with(day: date, keys: Sequence[str]) -> DayBlock:
    rows = loans_of(day, len(keys), "aa")
    return block_of(day, [{**row, "loan": key} for row, key in zip(rows, keys, strict=True)])


def worse_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if most keys had the hash of another one."""

    def hash_of(value: str | int) -> int:
        return len(str(value)) << 32

    def hashes_of(column: pa.Array) -> np.ndarray:
        return np.array([hash_of(value) for value in column.to_pylist()], np.uint64)

    monkeypatch.setattr(blocks, "hash_of", hash_of)
    monkeypatch.setattr(blocks, "hashes_of", hashes_of)


@pytest.mark.parametrize("collide", [False, True])
@given(days=st.lists(KEYS, max_size=4), others=KEYS)
def test_a_key_is_found_exactly_if_it_is_there(
    collide: bool, days: list[set[str]], others: set[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if collide:
            worse_hashes(patch)
        held = [block_with(day_number(n), sorted(keys)) for n, keys in enumerate(days)]
        index = KeyIndex("loan").holding(held)
        newest = {key: day_number(n) for n, keys in enumerate(days) for key in keys}
        for key in {*newest, *others}:
            found = index.find(key)
            assert (found and found[0].day) == newest.get(key)
            assert found is None or found[0].row(found[1])["loan"] == key


@given(st.lists(st.sets(st.integers(0, 5)), max_size=6))
def test_an_index_that_follows_changes_is_one_made_anew(steps: list[set[int]]) -> None:
    """Whatever days come and go, in whatever order, and an older index stays as it was."""
    made = {n: block_with(day_number(n), [f"{n}-{i}" for i in range(n + 1)]) for n in range(6)}
    index, before = KeyIndex("loan"), set[int]()
    for present in steps:
        following = index.holding([made[n] for n in present])
        for one, there in ((following, present), (index, before)):
            assert len(one) == sum(n + 1 for n in there)
            for n in range(6):
                found = one.find(f"{n}-{n}")
                assert found == ((made[n], n) if n in there else None)
        index, before = following, present


@pytest.mark.parametrize("count", [0, 1, 300])
def test_rows_are_what_was_stored(count: int) -> None:
    rows = loans_of(day_number(0), count, "aa")
    block = block_of(day_number(0), rows)
    assert [block.row(n) for n in range(block.rows)] == rows


@pytest.mark.parametrize("collide", [False, True])
def test_rows_of_an_entity(collide: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if collide:
        worse_hashes(monkeypatch)
    rows = loans_of(day_number(0), 100, "aa")
    block = block_of(day_number(0), rows)
    for value in ("r0", "r6", "r7", ""):
        expected = [n for n, row in enumerate(rows) if row["reader"] == value]
        assert block.rows_of("reader", value) == expected
    assert block.rows_of("shelf", 2) == [n for n, row in enumerate(rows) if row["shelf"] == 2]


def test_bytes_are_those_of_the_arrays() -> None:
    """Columns with few values a day take a byte a row; nothing is kept that is not counted."""
    few, many = (block_of(day_number(0), loans_of(day_number(0), n, "aa")) for n in (1_000, 9_000))
    a_row = (many.bytes - few.bytes) / 8_000
    texts = (4 + 9) + (4 + 2)
    numbers = 8 + 8 + 8.125 + 4  # shelf, time, pages with a bit that says if they are null, score
    indexes, same_all_day = 2 * 8, 2
    assert a_row == pytest.approx(texts + numbers + indexes + same_all_day, abs=0.5)
    index = KeyIndex("loan").holding([many])
    assert index.bytes == blocks.INDEX_BYTES * 9_000
