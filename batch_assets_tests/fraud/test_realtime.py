"""Real-time scores are those of the batch for the same transaction and the same knowledge."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from batch_assets.fraud import tables
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.fraud.realtime import FraudRealtime
from batch_assets.fraud.realtime_request import TransactionRequest
from batch_assets_tests.fraud.zone import START, Zone, days, put_any_model_live, rows_of

LAST = START + timedelta(days=44)
CURRENCIES = ("EUR", "USD", "JPY")


def _rows(day: date, rng: np.random.Generator) -> list[tuple[object, ...]]:
    """Rows with equal instants, few and many rows a customer, and customers who come later."""
    begin = datetime(day.year, day.month, day.day)
    rows: list[tuple[object, ...]] = []
    for n in range(30):
        newcomers = (day - START).days // 5
        at = begin + timedelta(seconds=int(rng.integers(0, 24)) * 3600 + int(rng.integers(0, 2)))
        rows.append(
            (
                f"t-{day}-{n}",
                f"c{int(rng.integers(0, 8 + newcomers))}",
                f"s{int(rng.integers(0, 4 + newcomers))}",
                f"{float(rng.integers(1, 40_000)) / 100:.2f}",
                at,
                CURRENCIES[int(rng.integers(0, 3))],
            )
        )
    return rows


def deliver(zone: Zone, upto: date) -> dict[date, list[tuple[object, ...]]]:
    """Files of all days: transactions, labels 3 to 20 days later, rates but on Sundays."""
    rng, rows = np.random.default_rng(5), {}
    labels: dict[date, list[tuple[object, ...]]] = {}
    for day in days((upto - START).days + 1):
        rows[day] = _rows(day, rng)
        zone.deliver(day, rows[day])
        for row in rows[day]:
            if rng.random() < 0.15:
                known = day + timedelta(days=int(rng.integers(3, 20)))
                labels.setdefault(known, []).append((row[0], row[4], 1))
        if day.weekday() != 6:
            quotes = [(day, "USD", f"{0.9 + day.day / 1000:.4f}"), (day, "JPY", "0.0061")]
            zone.rate(day, quotes)
    for known, told in labels.items():
        if known <= upto:
            zone.label(known, told)
    return rows


def asked_for(row: tuple[object, ...]) -> TransactionRequest:
    key, customer, terminal, amount, at, currency = row
    assert isinstance(at, datetime)
    return TransactionRequest.model_validate(
        {
            "transaction_id": key,
            "customer_id": customer,
            "terminal_id": terminal,
            "amount": amount,
            "currency": currency,
            "happened_at": at.isoformat(),
        }
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Any]]:
    """A home that was built to the last day, in a feed's time zone, and its rows."""
    home = tmp_path_factory.mktemp("realtime") / "home"
    home.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BATCH_ASSETS_HOME", str(home))
        zone = Zone(home).describe(time_zone="America/New_York")
        rows = deliver(zone, LAST)
        pipeline = zone.pipeline()
        put_any_model_live(pipeline)
        pipeline.update(days((LAST - START).days + 2))
        yield home, rows


@pytest.fixture
def pipeline(built: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    monkeypatch.setenv("BATCH_ASSETS_HOME", str(built[0]))
    return Zone(built[0]).pipeline()


@pytest.fixture
def realtime(pipeline: Pipeline) -> Iterator[FraudRealtime]:
    model = FraudRealtime(today=lambda: LAST + timedelta(days=1))
    model.refresh()
    yield model
    model.close()


def by_id(table: pa.Table) -> dict[str, dict[str, Any]]:
    return {row["transaction_id"]: row for row in table.to_pylist()}


def batch(pipeline: Pipeline) -> dict[str, dict[str, Any]]:
    return {row["transaction_id"]: row for row in rows_of(pipeline, tables.FRAUD_PREDICTIONS)}


def same(row: dict[str, Any], other: dict[str, Any]) -> bool:
    """Equal in every bit but for the time of scoring and the vector."""
    left_out = ("scored_at", "vector")
    return {k: v for k, v in row.items() if k not in left_out} == {
        k: v for k, v in other.items() if k not in left_out
    }


@pytest.mark.parametrize("together", [1, 7, 200])
def test_scores_have_the_bits_of_the_batch(
    built: tuple[Path, Any], pipeline: Pipeline, realtime: FraudRealtime, together: int
) -> None:
    some = [row for day, rows in built[1].items() if day > LAST - timedelta(days=7) for row in rows]
    expected = batch(pipeline)
    rows = [asked_for(row) for row in some]
    rows = rows[:40] if together == 1 else rows
    for at in range(0, len(rows), together):
        part = rows[at : at + together]
        found = realtime.score(part)
        assert found["transaction_id"].to_pylist() == [row.transaction_id for row in part]
        for key, row in by_id(found).items():
            assert same(row, expected[key]), key
