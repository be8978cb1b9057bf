from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_assets.errors import BatchAssetsError
from batch_assets.inference.batches import column_of, feature_matrix, recut


@given(st.lists(st.integers(0, 9)), st.integers(1, 12))
def test_recut_keeps_the_rows_and_cuts_them_evenly(sizes: list[int], rows: int) -> None:
    numbers = iter(range(sum(sizes)))
    cut = [pa.record_batch({"n": [next(numbers) for _ in range(size)]}) for size in sizes]
    again = list(recut(cut, rows))
    found = [n for parts in again for n in column_of(parts, "n").to_pylist()]
    assert found == list(range(sum(sizes)))
    counts = [sum(part.num_rows for part in parts) for parts in again]
    assert all(count == rows for count in counts[:-1])
    assert all(0 < count <= rows for count in counts)
    assert all(part.num_rows for parts in again for part in parts)


def test_numbers_of_every_kind_become_float32_and_nulls_nan() -> None:
    batch = pa.record_batch(
        {
            "count": pa.array([1, None], pa.int64()),
            "share": pa.array([0.25, None], pa.float64()),
            "flag": pa.array([True, None], pa.bool_()),
            "amount": pa.array([Decimal("12.34"), None], pa.decimal128(18, 2)),
            "text": ["a", "b"],
        }
    )
    matrix = feature_matrix(batch, ["amount", "flag", "share", "count"])
    assert matrix.dtype == np.float32
    assert matrix[0].tolist() == pytest.approx([12.34, 1.0, 0.25, 1.0])
    assert np.isnan(matrix[1]).all()


@given(st.integers(0, 3000), st.integers(1, 5), st.integers(0, 3000))
def test_many_rows_are_as_each_column_has_them(rows: int, features: int, end: int) -> None:
    columns = {str(n): np.arange(rows, dtype=np.int64) * 7 + n for n in range(features)}
    batch = pa.record_batch(columns)
    matrix = feature_matrix([batch.slice(0, end), batch.slice(end)], list(columns))
    assert matrix.shape == (rows, features)
    assert all((matrix[:, n] == columns[str(n)]).all() for n in range(features))


def test_one_column_of_lists_is_the_matrix_without_a_copy() -> None:
    values = np.arange(12, dtype=np.float32)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(values), 3)
    batch = pa.record_batch({"all": lists}).slice(1, 2)
    matrix = feature_matrix(batch, ["a", "b", "c"], "all")
    assert matrix.tolist() == [[3, 4, 5], [6, 7, 8]]
    assert np.shares_memory(matrix, values)
    with pytest.raises(BatchAssetsError, match="fixed-size list of 2 float32"):
        feature_matrix(batch, ["a", "b"], "all")
    nulls = pa.array([[1.0, None]], pa.list_(pa.float32(), 2))
    with pytest.raises(BatchAssetsError, match="have nulls"):
        feature_matrix(pa.record_batch({"all": nulls}), ["a", "b"], "all")


def test_columns_that_are_missing_or_no_numbers_are_named() -> None:
    batch = pa.record_batch({"a": [1], "text": ["x"]})
    with pytest.raises(BatchAssetsError, match="lack the model's inputs b, c"):
        feature_matrix(batch, ["a", "b", "c"])
    with pytest.raises(BatchAssetsError, match="'text' is of type string"):
        feature_matrix(batch, ["a", "text"])
