"""An exact search equals NumPy's; an approximate one finds .95 of it; neither sees stale days."""

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_assets.storage.vectors import (
    Equals,
    Filter,
    OneOf,
    Range,
    VectorStore,
    VectorStoreError,
)
from batch_assets.storage.vectors.search import DISTANCE
from batch_assets_tests.storage.vectors.samples import DOCUMENTS, SIZE, day, matrix, rows

DAYS = 4
Written = tuple[VectorStore, pa.Table]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A store with four days of 300 rows, and the same rows as a table."""
    store = VectorStore(str(tmp_path_factory.mktemp("search")))
    batches = [rows(day(number), 300, version=f"v{number}") for number in range(DAYS)]
    for number, batch in enumerate(batches):
        store.replace_day(DOCUMENTS, day(number), [batch])
    store.optimise(DOCUMENTS, index_above=10**9)
    return store, pa.Table.from_batches(batches)


def nearest(table: pa.Table, vector: np.ndarray, k: int, seen: np.ndarray) -> list[str]:
    """Keys of the k rows nearest to the vector, by comparing all that are seen."""
    distances = ((matrix(table) - vector) ** 2).sum(axis=1)
    order = [at for at in np.argsort(distances, kind="stable") if seen[at]]
    keys = table["document_id"].to_pylist()
    return [keys[at] for at in order[:k]]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    k=st.integers(1, 40),
    first=st.none() | st.integers(-1, DAYS),
    last=st.none() | st.integers(-1, DAYS),
    author=st.none() | st.lists(st.integers(0, 8), max_size=3),
    score=st.tuples(st.floats(0, 1, width=32), st.floats(0, 1, width=32)) | st.none(),
    stale=st.sets(st.integers(0, DAYS - 1)),
)
def test_exact_search_equals_comparing_all(
    written: Written,
    seed: int,
    k: int,
    first: int | None,
    last: int | None,
    author: list[int] | None,
    score: tuple[float, float] | None,
    stale: set[int],
) -> None:
    store, table = written
    frame = table.to_pydict()
    vector = np.random.default_rng(seed).standard_normal(SIZE).astype(np.float32)
    days = (None if first is None else day(first), None if last is None else day(last))
    valid = {day(at): "another" if at in stale else f"v{at}" for at in range(DAYS)}
    seen = np.array([int(key[1:]) not in stale for key in frame["scoring_key"]])
    seen &= [(days[0] or date.min) <= one <= (days[1] or date.max) for one in frame["day"]]
    filters: list[Filter] = []
    if author is not None:
        names = [f"O'Brien {at}" for at in author]
        filters.append(OneOf("author", names))
        seen &= [one in names for one in frame["author"]]
    if score is not None:
        filters.append(Range("score", *score))
        seen &= [score[0] <= one <= score[1] for one in frame["score"]]
    hits = store.search(DOCUMENTS, vector, k=k, days=days, filters=filters, exact=True, valid=valid)
    assert hits["document_id"].to_pylist() == nearest(table, vector, k, seen)
    assert hits[DISTANCE].to_pylist() == sorted(hits[DISTANCE].to_pylist())
    assert hits.schema.metadata[b"exact"] == b"true"


def test_search_by_key_leaves_the_key_out(written: Written) -> None:
    store, table = written
    at = 17
    key, vector = table["document_id"][at].as_py(), matrix(table)[at]
    seen = np.ones(table.num_rows, bool)
    seen[at] = False
    hits = store.search(DOCUMENTS, key=key, k=5)
    assert hits["document_id"].to_pylist() == nearest(table, vector, 5, seen)
    elsewhere = store.search(DOCUMENTS, key=key, k=5, days=(day(2), day(2)))
    assert set(elsewhere["day"].to_pylist()) == {day(2)}
    assert store.search(DOCUMENTS, key=key, k=10_000).num_rows == table.num_rows - 1


def test_a_day_with_two_versions_shows_the_valid_one_only(tmp_path: Path) -> None:
    store = VectorStore(str(tmp_path))
    old, new = rows(day(0), 20, version="old"), rows(day(0), 30, version="new", seed=1)
    store.replace_day(DOCUMENTS, day(0), [old, new])
    store.replace_day(DOCUMENTS, day(1), [rows(day(1), 10, version="old")])
    assert store.days(DOCUMENTS)[day(0)].version_key is None
    for valid, expected in [
        (None, 60),
        ({day(0): "new"}, 30),
        ({day(0): "old", day(1): "old"}, 30),
        ({day(0): "new", day(1): "new"}, 30),
        ({day(0): "x'y"}, 0),
        ({}, 0),
    ]:
        hits = store.search(DOCUMENTS, [0.0] * SIZE, k=100, valid=valid)
        assert hits.num_rows == expected
        key = "2026-03-01/old/3"
        shown = valid is None or valid.get(day(0)) == "old"
        assert store.lookup(DOCUMENTS, [key], valid=valid).num_rows == shown
        if not shown:
            with pytest.raises(VectorStoreError, match="may be read"):
                store.search(DOCUMENTS, key=key, valid=valid)


def test_a_key_on_two_days_is_searched_from_its_newest(tmp_path: Path) -> None:
    store = VectorStore(str(tmp_path))
    for number in (1, 0):
        keys = ["moved", f"other {number}"]
        store.replace_day(DOCUMENTS, day(number), [rows(day(number), 2, keys=keys)])
    assert store.lookup(DOCUMENTS, ["moved"])["day"].to_pylist() == [day(1), day(0)]
    hits = store.search(DOCUMENTS, key="moved", k=9)
    assert sorted(hits["document_id"].to_pylist()) == ["other 0", "other 1"]
    assert (store.count(DOCUMENTS), store.distinct_keys(DOCUMENTS)) == (4, 3)


def test_the_result_has_the_columns_asked_for(written: Written) -> None:
    store, _ = written
    hits = store.search(DOCUMENTS, [0.0] * SIZE, k=2, columns=["author", "vector"])
    assert hits.column_names == ["author", "vector", DISTANCE]
    none = store.search(DOCUMENTS, [0.0] * SIZE, days=(day(90), None), columns=["author"])
    assert none.num_rows == 0
    assert none.column_names == ["author", DISTANCE]
    everything = store.search(DOCUMENTS, [0.0] * SIZE, k=1)
    names = [name for name in DOCUMENTS.schema.names if name != "vector"]
    assert everything.column_names == [*names, DISTANCE]


@pytest.mark.parametrize(
    ("question", "says"),
    [
        ({}, "either a vector or a key"),
        ({"vector": [0.0] * SIZE, "key": "a"}, "either a vector or a key"),
        ({"key": "nobody"}, "no vector of document_id 'nobody'"),
        ({"key": 7}, "cannot be compared"),
        ({"vector": [0.0] * 3}, r"vectors of 8 numbers; the query has the shape \(3,\)"),
        ({"vector": [float("nan")] * SIZE}, "finite"),
        ({"vector": ["a"] * SIZE}, "numbers only"),
        ({"vector": [0.0] * SIZE, "k": 0}, "ask for 1 to"),
        ({"vector": [0.0] * SIZE, "columns": ["_rowid"]}, "no column _rowid"),
        ({"vector": [0.0] * SIZE, "filters": [Equals("_rowid", 1)]}, "no column '_rowid'"),
    ],
)
def test_a_question_that_has_no_answer_is_explained(
    written: Written, question: dict[str, Any], says: str
) -> None:
    with pytest.raises(VectorStoreError, match=says):
        written[0].search(DOCUMENTS, **question)


def test_an_empty_table_has_no_neighbours(tmp_path: Path) -> None:
    store = VectorStore(str(tmp_path))
    store.ensure(DOCUMENTS)
    assert store.search(DOCUMENTS, [0.0] * SIZE).num_rows == 0
    assert store.optimise(DOCUMENTS).indexes_created == []
    assert store.index_coverage(DOCUMENTS) == 0.0
