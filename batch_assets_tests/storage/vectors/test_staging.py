"""Rows that are written beside a table, published together later, and read back by position."""

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_assets.storage.vectors import StagedRows, VectorStore, VectorStoreError, VectorTable

DAY = date(2026, 3, 1)
SPEC = VectorTable(
    name="documents",
    schema=pa.schema(
        [
            pa.field("document_id", pa.string()),
            pa.field("day", pa.date32()),
            pa.field("vector", pa.list_(pa.float32(), 4)),
            pa.field("number", pa.int64()),
            pa.field("scoring_key", pa.string()),
        ]
    ),
    key="document_id",
)


def rows(first: int, count: int, day: date = DAY, version: str = "v1") -> Iterator[pa.RecordBatch]:
    numbers = range(first, first + count)
    vectors = np.repeat(np.arange(first, first + count, dtype=np.float32), 4)
    yield pa.RecordBatch.from_arrays(
        [
            pa.array([f"d{n}" for n in numbers], pa.string()),
            pa.array([day] * count, pa.date32()),
            pa.FixedSizeListArray.from_arrays(pa.array(vectors), 4),
            pa.array(numbers, pa.int64()),
            pa.array([version] * count, pa.string()),
        ],
        schema=SPEC.schema,
    )


@pytest.fixture
def store(tmp_path: Path) -> VectorStore:
    return VectorStore(str(tmp_path))


def test_staged_rows_are_seen_by_nobody_until_all_of_the_day_is_published(
    store: VectorStore,
) -> None:
    store.replace_day(SPEC, DAY, rows(0, 5, version="old"))
    staged = [store.stage(SPEC, DAY, rows(0, 10)), store.stage(SPEC, DAY, rows(10, 3))]
    assert store.days(SPEC)[DAY].version_key == "old"
    assert store.count(SPEC) == 5
    store.publish(SPEC, {DAY: staged})
    assert store.days(SPEC)[DAY].rows == 13
    assert store.days(SPEC)[DAY].version_key == "v1"


def test_what_was_staged_is_published_by_another_process_that_read_it_as_json(
    store: VectorStore,
) -> None:
    staged = store.stage(SPEC, DAY, rows(0, 10))
    text = json.dumps({"rows": staged.rows, "files": staged.files})
    again = VectorStore(store.uri)
    read = json.loads(text)
    found = StagedRows(read["rows"], tuple(read["files"]))
    assert again.is_staged(SPEC, found)
    again.publish(SPEC, {DAY: [found]})
    assert again.count(SPEC) == 10


@pytest.mark.parametrize("damage", ["gone", "torn"])
def test_staged_files_that_are_gone_or_torn_are_noticed(store: VectorStore, damage: str) -> None:
    staged = store.stage(SPEC, DAY, rows(0, 10))
    (file,) = (Path(store.table_uri(SPEC)) / "data").glob("*.lance")
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-40])
    assert not store.is_staged(SPEC, staged)


def test_a_key_that_stands_in_two_parts_is_refused_and_nothing_is_published(
    store: VectorStore,
) -> None:
    staged = [store.stage(SPEC, DAY, rows(0, 10)), store.stage(SPEC, DAY, rows(9, 3))]
    with pytest.raises(VectorStoreError, match="'d9'"):
        store.publish(SPEC, {DAY: staged})
    assert store.count(SPEC) == 0


def test_several_days_are_published_in_one_commit(store: VectorStore) -> None:
    other = date(2026, 3, 2)
    before = store.replace_day(SPEC, DAY, rows(0, 5, version="old")).version
    staged = {
        DAY: [store.stage(SPEC, DAY, rows(0, 3))],
        other: [store.stage(SPEC, other, rows(3, 4, other))],
    }
    assert store.publish(SPEC, staged) == before + 1
    assert {day: state.rows for day, state in store.days(SPEC).items()} == {DAY: 3, other: 4}


def test_publishing_nothing_empties_the_day(store: VectorStore) -> None:
    store.replace_day(SPEC, DAY, rows(0, 5))
    store.publish(SPEC, {DAY: [store.stage(SPEC, DAY, [])]})
    assert store.days(SPEC) == {}


@settings(max_examples=30, deadline=None)
@given(positions=st.lists(st.integers(0, 24), max_size=60))
def test_rows_are_taken_by_position_in_any_order_and_more_than_once(
    tmp_path_factory: pytest.TempPathFactory, positions: list[int]
) -> None:
    store = VectorStore(str(tmp_path_factory.mktemp("vectors")))
    staged = [store.stage(SPEC, DAY, rows(0, 10)), store.stage(SPEC, DAY, rows(10, 15))]
    store.publish(SPEC, {DAY: staged})
    day_rows = store.day_rows(SPEC, DAY, "v1")
    assert day_rows is not None
    numbers = day_rows.column("number").to_numpy()
    taken = day_rows.take(np.array(positions, dtype=np.int64), ["number", "vector"])
    assert taken["number"].to_pylist() == [int(numbers[p]) for p in positions]
    assert [v[0] for v in taken["vector"].to_pylist()] == [float(numbers[p]) for p in positions]


def test_rows_of_a_day_are_there_for_the_version_that_all_of_them_carry_only(
    store: VectorStore,
) -> None:
    store.replace_day(SPEC, DAY, rows(0, 5, version="v1"))
    assert store.day_rows(SPEC, DAY, "v2") is None
    assert store.day_rows(SPEC, date(2026, 3, 2), "v1") is None
    found = store.day_rows(SPEC, DAY, "v1")
    store.replace_day(SPEC, DAY, rows(100, 5, version="v2"))
    assert found is not None
    assert found.column("number").to_pylist() == [0, 1, 2, 3, 4]
