"""Whatever days are written, in whatever order, the table holds each day's last rows."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch_assets.storage.vectors import VectorStore, VectorStoreError, VectorTable
from batch_assets_tests.storage.vectors.samples import DOCUMENTS, day, in_batches, rows

STEP = st.tuples(
    st.sampled_from(["replace", "replace", "replace", "delete", "optimise", "foreign"]),
    st.integers(0, 3),
    st.integers(0, 40),
)


def stored(store: VectorStore) -> dict[str, dict[str, Any]]:
    """All rows by key, as LanceDB itself reads them."""
    import lancedb

    table = lancedb.connect(store.uri).open_table(DOCUMENTS.name).to_arrow()
    assert len(set(table["document_id"].to_pylist())) == table.num_rows
    return {row["document_id"]: row for row in table.to_pylist()}


def scatter(store: VectorStore) -> None:
    """What other software may do: put the rows of all days together into one file."""
    import lance

    dataset = lance.dataset(store.table_uri(DOCUMENTS))
    dataset.optimize.compact_files(target_rows_per_fragment=1_000_000)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(STEP, min_size=1, max_size=8))
def test_any_sequence_of_changes_equals_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]]
) -> None:
    store = VectorStore(str(tmp_path_factory.mktemp("model")))
    store.ensure(DOCUMENTS)
    model: dict[int, pa.RecordBatch] = {}
    for at, (what, number, count) in enumerate(steps):
        if what == "replace":
            model[number] = rows(day(number), count, version=f"v{at}", seed=at)
            written = store.replace_day(DOCUMENTS, day(number), in_batches(model[number], 16))
            assert written.rows == count
        elif what == "delete":
            model.pop(number, None)
            store.delete_days(DOCUMENTS, [day(number)])
        elif what == "optimise":
            store.optimise(DOCUMENTS, index_above=30)
        else:
            scatter(store)
        expected = {row["document_id"]: row for one in model.values() for row in one.to_pylist()}
        assert stored(store) == expected
        assert store.count(DOCUMENTS) == store.distinct_keys(DOCUMENTS) == len(expected)
        assert {
            of: (state.rows, state.version_key) for of, state in store.days(DOCUMENTS).items()
        } == {
            day(number): (one.num_rows, one["scoring_key"][0].as_py())
            for number, one in model.items()
            if one.num_rows
        }


def test_one_commit_a_day_and_no_file_shared_by_two_days(tmp_path: Path) -> None:
    import lance

    store = VectorStore(str(tmp_path))
    store.ensure(DOCUMENTS)
    for turn in range(2):
        for number in range(3):
            before = lance.dataset(store.table_uri(DOCUMENTS)).version
            batches = in_batches(rows(day(number), 50, version=f"v{turn}"), 7)
            assert store.replace_day(DOCUMENTS, day(number), batches).version == before + 1
    for fragment in lance.dataset(store.table_uri(DOCUMENTS)).get_fragments():
        assert len(set(fragment.to_table(columns=["day"])["day"].to_pylist())) == 1


def test_a_reader_keeps_the_version_it_opened(tmp_path: Path) -> None:
    import lancedb

    store = VectorStore(str(tmp_path))
    store.replace_day(DOCUMENTS, day(0), [rows(day(0), 10, version="old")])
    table = lancedb.connect(store.uri).open_table(DOCUMENTS.name)
    table.checkout(table.version)
    store.replace_day(DOCUMENTS, day(0), [rows(day(0), 12, version="new")])
    store.optimise(DOCUMENTS, index_above=1)
    assert table.to_arrow()["scoring_key"].to_pylist() == ["old"] * 10


def test_fragment_ids_are_never_used_twice(tmp_path: Path) -> None:
    import lance

    store = VectorStore(str(tmp_path))
    seen: list[int] = []
    for number in range(6):
        store.replace_day(DOCUMENTS, day(number), [rows(day(number), 5)])
        fragments = lance.dataset(store.table_uri(DOCUMENTS)).get_fragments()
        seen.append(fragments[-1].fragment_id)
        store.delete_days(DOCUMENTS, [day(number)])
    assert len(set(seen)) == 6


def test_columns_may_come_in_any_order_and_type_that_fits(tmp_path: Path) -> None:
    store = VectorStore(str(tmp_path))
    batch = rows(day(0), 5)
    names = ["extra", *reversed(DOCUMENTS.schema.names)]
    batch = batch.append_column("extra", pa.array(range(5))).select(names)
    keys = batch["document_id"].cast(pa.large_string())
    at = names.index("document_id")
    batch = batch.set_column(at, pa.field("document_id", pa.large_string()), keys)
    store.replace_day(DOCUMENTS, day(0), [batch])
    assert stored(store) == {row["document_id"]: row for row in rows(day(0), 5).to_pylist()}


def changed(column: str, values: list[Any]) -> pa.RecordBatch:
    """Three rows with other values in one column."""
    at = DOCUMENTS.schema.get_field_index(column)
    field = DOCUMENTS.schema.field(column)
    filled = pa.array(values, field.type if column != "author" else None)
    return rows(day(0), 3).set_column(at, pa.field(column, filled.type), filled)


@pytest.mark.parametrize(
    ("batches", "says"),
    [
        ([rows(day(0), 3), rows(day(0), 2)], r"2 values of document_id came more than once"),
        ([rows(day(0), 3), rows(day(1), 2)], r"a row of 2026-03-02 came with the day 2026-03-01"),
        ([rows(day(0), 3).drop_columns(["author", "price"])], r"lacks author, price"),
        ([changed("document_id", ["a", None, "c"])], r"'document_id' has 1 nulls"),
        ([changed("vector", [[1.0] * 8, [float("nan")] * 8, [0.0] * 8])], r"v1/1' holds NaN"),
        ([changed("author", [b"\xff", b"b", b"c"])], r"'author' is binary and does not fit"),
    ],
)
def test_wrong_rows_are_named_and_nothing_changes(
    tmp_path: Path, batches: list[pa.RecordBatch], says: str
) -> None:
    store = VectorStore(str(tmp_path))
    before = store.replace_day(DOCUMENTS, day(0), [rows(day(0), 4, version="good")])
    with pytest.raises(VectorStoreError, match=says):
        store.replace_day(DOCUMENTS, day(0), batches)
    assert {row["scoring_key"] for row in stored(store).values()} == {"good"}
    assert store.replace_day(DOCUMENTS, day(1), []).version == before.version


def test_an_error_of_the_stream_arrives_as_it_was(tmp_path: Path) -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield rows(day(0), 3)
        raise ZeroDivisionError("the model failed")

    store = VectorStore(str(tmp_path))
    with pytest.raises(ZeroDivisionError, match="the model failed"):
        store.replace_day(DOCUMENTS, day(0), broken())
    assert store.count(DOCUMENTS) == 0


def test_a_table_with_other_columns_is_refused(tmp_path: Path) -> None:
    store = VectorStore(str(tmp_path))
    store.ensure(DOCUMENTS)
    longer = DOCUMENTS.schema.set(2, pa.field("vector", pa.list_(pa.float32(), 9)))
    other = VectorTable(name="documents", schema=longer, key="document_id")
    with pytest.raises(VectorStoreError, match="made with other columns: vector is"):
        store.ensure(other)


def test_a_missing_table_is_said_to_be_missing(tmp_path: Path) -> None:
    store = VectorStore(str(tmp_path))
    assert not store.exists(DOCUMENTS)
    for ask in (store.count, store.days, store.optimise):
        with pytest.raises(VectorStoreError, match="no vector table documents"):
            ask(DOCUMENTS)


def test_integer_keys_and_half_precision_vectors(tmp_path: Path) -> None:
    schema = pa.schema(
        {
            "id": pa.int64(),
            "day": pa.date32(),
            "vector": pa.list_(pa.float16(), 4),
            "scoring_key": pa.string(),
        }
    )
    spec = VectorTable(name="numbers", schema=schema, key="id", metric="cosine")
    vectors = np.eye(4, dtype=np.float16)
    batch = pa.record_batch(
        {
            "id": [-2, -1, 0, 1],
            "day": pa.array([day(0)] * 4),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 4),
            "scoring_key": ["v"] * 4,
        }
    )
    store = VectorStore(str(tmp_path))
    store.replace_day(spec, day(0), [batch])
    assert store.distinct_keys(spec) == 4
    assert store.search(spec, [0, 0, 2, 0.5], k=1)["id"].to_pylist() == [0]
    assert store.search(spec, key=-1, k=9).num_rows == 3
    with pytest.raises(VectorStoreError, match="1 values of id"):
        store.replace_day(spec, day(0), [batch, batch.slice(1, 1)])


def test_old_versions_go_but_never_young_ones(tmp_path: Path) -> None:
    store = VectorStore(str(tmp_path))
    for turn in range(3):
        store.replace_day(DOCUMENTS, day(0), [rows(day(0), 10, version=f"v{turn}")])
    assert store.optimise(DOCUMENTS, keep=timedelta(minutes=10)).versions_removed == 0
    with pytest.raises(VectorStoreError, match="must be kept"):
        store.optimise(DOCUMENTS, keep=timedelta(0))
