"""Indexes follow the days, find what comparing all finds, and never show a removed row."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from batch_assets.storage.vectors import Equals, VectorStore
from batch_assets.storage.vectors.maintenance import MAX_SEGMENTS
from batch_assets_tests.storage.vectors.samples import DOCUMENTS, SIZE, day, matrix, rows

EACH = 12_000


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> VectorStore:
    """A store with four days of 12,000 rows, all in the index."""
    store = VectorStore(str(tmp_path_factory.mktemp("indexed")))
    for number in range(4):
        store.replace_day(DOCUMENTS, day(number), [rows(day(number), EACH)])
    done = store.optimise(DOCUMENTS, index_above=1000)
    assert done.indexes_created == ["document_id", "author", "day", "vector"]
    return store


def recall(store: VectorStore, **question: Any) -> float:
    """Share of the ten nearest rows that a search with the index finds."""
    queries = np.random.default_rng(3).standard_normal((40, SIZE)).astype(np.float32)
    hits = 0
    for query in queries:
        near = store.search(DOCUMENTS, query, columns=["document_id"], **question)
        true = store.search(DOCUMENTS, query, columns=["document_id"], exact=True, **question)
        assert near.schema.metadata[b"exact"] == b"false"
        assert near.num_rows == true.num_rows == 10
        hits += len(set(near["document_id"].to_pylist()) & set(true["document_id"].to_pylist()))
    return hits / (10 * len(queries))


def test_the_index_finds_what_comparing_all_finds(indexed: VectorStore) -> None:
    assert indexed.index_coverage(DOCUMENTS) == 1.0
    assert recall(indexed) >= 0.95
    assert recall(indexed, days=(day(1), day(2))) >= 0.95
    assert recall(indexed, valid={day(0): "v1", day(2): "v1", day(3): "stale"}) >= 0.95


def test_few_rows_are_compared_one_by_one(indexed: VectorStore) -> None:
    hits = indexed.search(DOCUMENTS, [0.0] * SIZE, filters=[Equals("author", "O'Brien 3")], k=3)
    assert hits.schema.metadata[b"exact"] == b"true"


def test_nothing_new_means_nothing_done(indexed: VectorStore) -> None:
    done = indexed.optimise(DOCUMENTS, index_above=1000)
    assert (done.days_compacted, done.indexes_created, done.indexes_extended) == ([], [], [])


def test_new_days_are_found_before_and_after_they_are_indexed(tmp_path: Path) -> None:
    store = VectorStore(str(tmp_path))
    store.replace_day(DOCUMENTS, day(0), [rows(day(0), 30_000)])
    store.optimise(DOCUMENTS, index_above=1000)
    for number in range(1, MAX_SEGMENTS + 3):
        batch = rows(day(number), 100)
        store.replace_day(DOCUMENTS, day(number), [batch])
        before = store.index_coverage(DOCUMENTS)
        assert before < 1.0
        for _ in range(2):
            hits = store.search(DOCUMENTS, matrix(batch)[5], k=1)
            assert hits["document_id"].to_pylist() == [batch["document_id"][5].as_py()]
            assert hits.schema.metadata[b"exact"] == b"false"
            store.optimise(DOCUMENTS, index_above=1000)
        assert store.index_coverage(DOCUMENTS) == 1.0
        assert pieces(store) <= MAX_SEGMENTS


def pieces(store: VectorStore) -> int:
    """Number of pieces of the vector index."""
    import lance

    described = lance.dataset(store.table_uri(DOCUMENTS)).describe_indices()
    return next(len(one.segments) for one in described if one.name == "vector_idx")


def test_replaced_rows_never_come_back_and_the_index_is_trained_anew(tmp_path: Path) -> None:
    store = VectorStore(str(tmp_path))
    for number in range(4):
        store.replace_day(DOCUMENTS, day(number), [rows(day(number), 8_000, version="old")])
    store.optimise(DOCUMENTS, index_above=1000)
    retrained = []
    for number in range(4):
        batch = rows(day(number), 8_000, version="new", seed=1)
        store.replace_day(DOCUMENTS, day(number), [batch])
        for _ in range(2):
            hits = store.search(DOCUMENTS, [0.0] * SIZE, k=5_000)
            versions = set(
                zip(hits["day"].to_pylist(), hits["scoring_key"].to_pylist(), strict=True)
            )
            assert versions == {(day(at), "new" if at <= number else "old") for at in range(4)}
            done = store.optimise(DOCUMENTS, index_above=1000)
            retrained += [number] * ("vector" in done.indexes_created)
    assert retrained == [2]


def test_days_that_others_put_together_are_taken_apart(tmp_path: Path) -> None:
    import lance

    store = VectorStore(str(tmp_path))
    batches = [rows(day(number), 50) for number in range(3)]
    for number, batch in enumerate(batches):
        store.replace_day(DOCUMENTS, day(number), [batch])
    dataset = lance.dataset(store.table_uri(DOCUMENTS))
    dataset.optimize.compact_files()
    assert len(dataset.get_fragments()) == 1
    assert store.optimise(DOCUMENTS).days_compacted == [day(0), day(1), day(2)]
    fragments = lance.dataset(store.table_uri(DOCUMENTS)).get_fragments()
    found = [fragment.to_table().to_pylist() for fragment in fragments]
    key = "document_id"
    expected = [pa.Table.from_batches([batch]).to_pylist() for batch in batches]
    assert sorted(found, key=lambda one: one[0][key]) == expected
