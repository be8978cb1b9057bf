"""Vectors stored as float16, and compressed indexes: what changes, and what must not."""

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from batch_assets.storage.vectors import VectorIndex, VectorStore, VectorTable, maintenance
from batch_assets.storage.vectors.maintenance import kind_of_index
from batch_assets_tests.storage.vectors.samples import DOCUMENTS, SIZE, day, matrix, rows

QUERY = np.linspace(-1, 1, SIZE, dtype=np.float32)


def stored_type(store: VectorStore, spec: VectorTable = DOCUMENTS) -> pa.DataType:
    return store.snapshot(spec).dataset.schema.field("vector").type.value_type


def distances(vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    return ((vectors.astype(np.float64) - query) ** 2).sum(axis=1)


def test_float16_rounds_vectors_and_nothing_else(tmp_path: Path) -> None:
    store = VectorStore(str(tmp_path))
    store.ensure(DOCUMENTS, "float16")
    given = rows(day(0), 500)
    store.replace_day(DOCUMENTS, day(0), [given])
    assert stored_type(store) == pa.float16()
    found = pa.Table.from_batches(
        store.scan(DOCUMENTS, DOCUMENTS.schema.names, valid={day(0): "v1"})
    )
    np.testing.assert_array_equal(matrix(found), matrix(given).astype(np.float16))
    others = [name for name in DOCUMENTS.schema.names if name != "vector"]
    assert found.select(others) == pa.Table.from_batches([given]).select(others)
    result = store.search(DOCUMENTS, QUERY, k=10)
    truth = distances(matrix(given).astype(np.float16), QUERY)
    wanted = [given["document_id"][int(at)].as_py() for at in np.argsort(truth)[:10]]
    assert result["document_id"].to_pylist() == wanted
    np.testing.assert_allclose(result["_distance"].to_numpy(), np.sort(truth)[:10], rtol=1e-3)
    around = store.search(DOCUMENTS, key=wanted[0], k=499)
    assert around.num_rows == 499
    assert wanted[0] not in around["document_id"].to_pylist()


def test_a_table_keeps_its_type_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = VectorStore(str(tmp_path))
    store.replace_day(DOCUMENTS, day(0), [rows(day(0), 10)])
    assert stored_type(store) == pa.float32()
    with caplog.at_level(logging.WARNING):
        store.ensure(DOCUMENTS)
        store.ensure(DOCUMENTS, "float32")
        assert not caplog.records
        assert store.ensure(DOCUMENTS, "float16") == DOCUMENTS
    assert "stores vectors as float32 and goes on to do so, not as float16" in caplog.text
    store.replace_day(DOCUMENTS, day(1), [rows(day(1), 10)])
    assert stored_type(store) == pa.float32()


def test_what_does_not_fit_float16_is_refused(tmp_path: Path) -> None:
    store = VectorStore(str(tmp_path))
    store.ensure(DOCUMENTS, "float16")
    batch = rows(day(0), 3)
    numbers = matrix(batch).copy()
    numbers[1, 2] = 1e6
    at = batch.schema.get_field_index("vector")
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(numbers.ravel()), SIZE)
    columns = [vectors if n == at else column for n, column in enumerate(batch.columns)]
    with pytest.raises(Exception, match="NaN or infinity"):
        store.replace_day(
            DOCUMENTS, day(0), [pa.RecordBatch.from_arrays(columns, schema=batch.schema)]
        )


def test_another_kind_of_index_is_made_when_it_is_wanted(tmp_path: Path) -> None:
    store = VectorStore(str(tmp_path))
    given = [rows(day(n), 2_000) for n in range(12)]
    for n, batch in enumerate(given):
        store.replace_day(DOCUMENTS, day(n), [batch])
    vectors = np.concatenate([matrix(batch) for batch in given])
    kinds: list[VectorIndex] = ["IVF_FLAT", "IVF_SQ", "IVF_PQ", "IVF_FLAT"]
    for kind in kinds:
        done = store.optimise(DOCUMENTS, index_above=1_000, vector_index=kind)
        assert "vector" in done.indexes_created
        assert kind_of_index(store.snapshot(DOCUMENTS).dataset, "vector") == kind
        hits = 0
        for at in range(0, 24_000, 100):
            query = vectors[at] + np.float32(0.01)
            result = store.search(DOCUMENTS, query, k=10)
            metadata = result.schema.metadata
            assert (metadata[b"exact"], metadata[b"index_coverage"]) == (b"false", b"1.000000")
            limit = np.sort(distances(vectors, query))[9] * (1 + 1e-5)
            hits += int((result["_distance"].to_numpy() <= limit).sum())
        assert hits >= 0.97 * 2_400
    assert not store.optimise(DOCUMENTS, index_above=1_000).indexes_created


def test_vectors_that_are_mostly_equal_get_an_index_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "ROWS_PER_PARTITION", 10)  # 300, which Lance makes by halving
    store = VectorStore(str(tmp_path))
    batch = rows(day(0), 3_000)
    few = matrix(batch)[:5].repeat(600, axis=0)
    at = batch.schema.get_field_index("vector")
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(few.ravel()), SIZE)
    columns = [vectors if n == at else column for n, column in enumerate(batch.columns)]
    store.replace_day(DOCUMENTS, day(0), [pa.RecordBatch.from_arrays(columns, schema=batch.schema)])
    assert "vector" in store.optimise(DOCUMENTS, index_above=1_000).indexes_created
    found = store.search(DOCUMENTS, few[0], k=10)
    assert found["_distance"].to_pylist() == [0.0] * 10
