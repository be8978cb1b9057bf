"""Filters compare values, whatever characters they hold, and never run them."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch_assets.storage.vectors import (
    Equals,
    Filter,
    OneOf,
    Range,
    VectorStore,
    VectorStoreError,
)
from batch_assets.storage.vectors.filters import filter_sql
from batch_assets_tests.storage.vectors.samples import DOCUMENTS, SIZE, day, rows

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
AWKWARD = [
    "",
    "'",
    "''",
    "O'Brien",
    "\\",
    "\\'",
    "a\nb",
    "x' OR '1'='1",
    "%_",
    "`",
    '"',
    "--",
    "🙂",
]
NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def found(store: VectorStore, *filters: Filter) -> list[str]:
    """Keys of the rows that the filters let through."""
    hits = store.search(DOCUMENTS, [0.0] * SIZE, k=1000, filters=filters, columns=["document_id"])
    return sorted(hits["document_id"].to_pylist())


def store_with(folder: Path, column: str, values: list[Any]) -> VectorStore:
    """A store whose rows, keyed 000, 001, ..., hold these values in one column."""
    keys = [f"{at:03}" for at in range(len(values))]
    batch = rows(day(0), len(values), keys=keys)
    kind = DOCUMENTS.schema.field(column).type
    at = DOCUMENTS.schema.get_field_index(column)
    batch = batch.set_column(at, DOCUMENTS.schema.field(column), pa.array(values, kind))
    store = VectorStore(str(folder))
    store.replace_day(DOCUMENTS, day(0), [batch])
    return store


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(values=st.lists(TEXT | st.sampled_from(AWKWARD), min_size=1, max_size=8, unique=True))
def test_any_text_is_found_by_itself_and_by_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, values: list[str]
) -> None:
    store = store_with(tmp_path_factory.mktemp("text"), "author", values)
    for at, value in enumerate(values):
        assert found(store, Equals("author", value)) == [f"{at:03}"]
    assert len(found(store, OneOf("author", values))) == len(values)
    keyed = VectorStore(str(tmp_path_factory.mktemp("keys")))
    keyed.replace_day(DOCUMENTS, day(0), [rows(day(0), len(values), keys=values)])
    assert sorted(keyed.lookup(DOCUMENTS, values)["document_id"].to_pylist()) == sorted(values)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    numbers=st.lists(NUMBERS, min_size=2, max_size=6),
    prices=st.lists(st.decimals(-1000, 1000, places=2), min_size=2, max_size=6),
    bound=st.decimals(-1000, 1000, places=4),
)
def test_ranges_of_numbers_include_both_ends(
    tmp_path_factory: pytest.TempPathFactory,
    numbers: list[float],
    prices: list[Decimal],
    bound: Decimal,
) -> None:
    store = store_with(tmp_path_factory.mktemp("numbers"), "score", numbers)
    low, high = sorted(numbers[:2])
    expected = [f"{at:03}" for at, number in enumerate(numbers) if low <= number <= high]
    assert found(store, Range("score", low, high)) == expected
    store = store_with(tmp_path_factory.mktemp("prices"), "price", prices)
    expected = [f"{at:03}" for at, price in enumerate(prices) if price >= bound]
    assert found(store, Range("price", low=bound)) == expected


def test_moments_days_whole_numbers_and_truth(tmp_path: Path) -> None:
    store = VectorStore(str(tmp_path))
    batch = rows(day(0), 20)
    store.replace_day(DOCUMENTS, day(0), [batch])
    table = batch.to_pylist()
    noon = datetime(2026, 3, 1, 0, 0, 10)
    berlin = timezone(timedelta(hours=1))
    for moment in (noon, datetime(2026, 3, 1, 1, 0, 10, tzinfo=berlin), noon.replace(tzinfo=UTC)):
        assert found(store, Range("written_at", high=moment)) == sorted(
            row["document_id"] for row in table if row["written_at"] <= noon
        )
    assert len(found(store, Equals("day", day(0)))) == 20
    assert found(store, Equals("day", day(1))) == []
    assert found(store, Equals("printed", True), Range("pages", 100, 500)) == sorted(
        row["document_id"] for row in table if row["printed"] and 100 <= row["pages"] <= 500
    )
    assert found(store, OneOf("author", [])) == []
    assert len(found(store, Range("pages"))) == 20


@pytest.mark.parametrize(
    "one",
    [
        Equals("nothing", 1),
        Equals("author` = 'x' OR `author", "x"),
        Equals("author", 7),
        Equals("pages", "7"),
        Equals("pages", True),
        Equals("pages", 2**40),
        Equals("score", float("nan")),
        Range("score", low=float("inf")),
        Range("price", low=Decimal("1e-60")),
        Equals("price", Decimal("NaN")),
        Equals("day", datetime(2026, 3, 1)),
        Equals("written_at", date(2026, 3, 1)),
        Equals("printed", "true"),
        Equals("vector", 1.0),
    ],
)
def test_a_value_that_does_not_fit_its_column_is_refused(one: Filter) -> None:
    with pytest.raises(VectorStoreError, match="Vector table documents"):
        filter_sql(DOCUMENTS, [one])
