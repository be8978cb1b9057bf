"""Real-time scores are those of the batch for the same transaction and the same knowledge."""

import shutil
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from batch_assets.fraud import tables
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.fraud.realtime import FraudRealtime
from batch_assets.fraud.realtime_look import WATCHED
from batch_assets.fraud.realtime_request import TransactionRequest
from batch_assets.serving.workload import RowsRefused
from batch_assets_tests.fraud.zone import (
    START,
    Zone,
    a_day_of_rows,
    days,
    put_any_model_live,
    rows_of,
)

LAST = START + timedelta(days=40)
CURRENCIES = ("EUR", "USD", "JPY")


def _rows(day: date, rng: np.random.Generator) -> list[tuple[object, ...]]:
    """Rows with equal instants, few and many rows a customer, and customers who come later."""
    begin = datetime(day.year, day.month, day.day)
    rows: list[tuple[object, ...]] = []
    for n in range(24):
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
        with (home / "settings.toml").open("a") as settings:
            settings.write("rate_max_age_days = 20\n")
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


@pytest.fixture
def copied(
    built: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Zone, FraudRealtime]]:
    """A home of one's own, and what scores in it."""
    home = tmp_path / "copy"
    shutil.copytree(built[0], home)
    monkeypatch.setenv("BATCH_ASSETS_HOME", str(home))
    model = FraudRealtime(today=lambda: LAST + timedelta(days=6))
    model.refresh()
    yield Zone(home), model
    model.close()


def score_as_they_come(
    model: FraudRealtime, rows: list[tuple[object, ...]]
) -> dict[str, dict[str, Any]]:
    """Rows of the same instant together, each knowing those before it."""
    found: dict[str, dict[str, Any]] = {}
    for at in sorted({str(row[4]) for row in rows}):
        part = [asked_for(row) for row in rows if str(row[4]) == at]
        found |= by_id(model.score(part))
        model.remember(part)
    return found


def catch_up(model: FraudRealtime, pipeline: Pipeline) -> None:
    """Look again until what the batch published is known."""
    while model.known_versions != tuple(pipeline.warehouse.snapshot(t).version for t in WATCHED):
        model.refresh()


def test_what_was_scored_as_it_came_is_what_the_batch_says_later(
    copied: tuple[Zone, FraudRealtime],
) -> None:
    zone, model = copied
    rng = np.random.default_rng(11)
    # the batch is late: days before yesterday count only by their totals, and one day has no row
    coming = {day: _rows(day, rng) for day in [LAST + timedelta(days=n) for n in (1, 2, 4)]}
    found: dict[str, dict[str, Any]] = {}
    for rows in coming.values():
        found |= score_as_they_come(model, rows)
    pipeline = zone.pipeline()
    for day, rows in coming.items():
        zone.deliver(day, rows)
    pipeline.update(days(5, LAST + timedelta(days=1)))
    said = batch(pipeline)
    differing = [key for key, row in found.items() if not same(row, said[key])]
    assert (differing, len(found)) == ([], 72)

    # what the batch has by now is not counted twice
    catch_up(model, pipeline)
    day = LAST + timedelta(days=5)
    rows = _rows(day, rng)
    found = score_as_they_come(model, rows)
    zone.deliver(day, rows)
    pipeline.update(days(2, day))
    said = batch(pipeline)
    assert [key for key, row in found.items() if not same(row, said[key])] == []


def test_what_was_scored_before_a_restart_is_known_after_it(
    copied: tuple[Zone, FraudRealtime],
) -> None:
    _, model = copied
    rows = [asked_for(row) for row in _rows(LAST + timedelta(days=1), np.random.default_rng(2))]
    rows.sort(key=lambda row: row.happened_at)
    again = FraudRealtime(today=lambda: LAST + timedelta(days=6))
    again.refresh()
    for row in rows[:-1]:
        model.score([row])
        model.remember([row])
    again.remember(rows[:-1])
    one, other = by_id(model.score(rows[-1:])), by_id(again.score(rows[-1:]))
    assert same(one[rows[-1].transaction_id], other[rows[-1].transaction_id])
    again.close()


def test_rows_of_several_days_that_come_together_know_each_other(
    copied: tuple[Zone, FraudRealtime],
) -> None:
    _, model = copied
    later = [LAST + timedelta(days=n) for n in (1, 2, 5)]
    rows = [
        TransactionRequest.model_validate(
            FINE | {"transaction_id": f"n{n}", "happened_at": f"{day}T12:00:00"}
        )
        for n, day in enumerate(later)
    ]
    together = by_id(model.score(rows[::-1]))
    for row in rows:
        alone = by_id(model.score([row]))
        model.remember([row])
        assert same(alone[row.transaction_id], together[row.transaction_id])


def test_a_new_live_version_is_taken_up(copied: tuple[Zone, FraudRealtime]) -> None:
    zone, model = copied
    row = asked_for(_rows(LAST, np.random.default_rng(3))[0])
    before = model.score([row]).to_pylist()[0]
    version = put_any_model_live(zone.pipeline(), seed=1)
    while model.refresh() != version:
        pass
    after = model.score([row]).to_pylist()[0]
    assert after["model_version"] == version != before["model_version"]
    assert after["score"] != before["score"]


FINE = {
    "transaction_id": "new",
    "customer_id": "c1",
    "terminal_id": "s1",
    "amount": "12.30",
    "currency": "EUR",
    "happened_at": f"{LAST}T12:00:00",
}


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        ({"happened_at": f"{LAST + timedelta(days=4)}T12:00:00"}, "happened_at", "future"),
        ({"happened_at": "2025-12-30T12:00:00Z"}, "happened_at", "before the first partition"),
        ({"happened_at": "2026-02-30T12:00:00Z"}, "happened_at", "not of the format"),
        ({"currency": "XXQ"}, "currency", "ISO 4217"),
        ({"currency": "CHF"}, "currency", "exchange rate for CHF"),
        ({"feed": "no such feed"}, "feed", "shop"),
    ],
)
def test_a_row_that_cannot_be_used_says_which_field_and_why(
    realtime: FraudRealtime, change: dict[str, str], field: str, says: str
) -> None:
    rows = [
        TransactionRequest.model_validate(row)
        for row in (FINE | {"transaction_id": "good"}, FINE | change)
    ]
    with pytest.raises(RowsRefused) as refused:
        realtime.score(rows)
    (place,) = refused.value.refused
    assert (place, refused.value.refused[1].field) == (1, field)
    assert says in refused.value.refused[1].detail
    assert realtime.score(rows[:1]).num_rows == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("transaction_id", " "),
        ("transaction_id", "x" * 201),
        ("customer_id", 7),
        ("amount", "NaN"),
        ("amount", -1),
        ("amount", 1e30),
        ("amount", True),
        ("amount", "0.00001"),
        ("currency", "eur"),
        ("happened_at", "yesterday"),
        ("happened_at", "0001-01-01T00:00:00Z"),
        ("is_fraud", 1),
    ],
)
def test_a_request_that_makes_no_sense_is_told_so(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        TransactionRequest.model_validate(FINE | {field: value})


PACE = """-- How busy a customer is.
-- look_back: 2 days
-- reads: clean_transactions
-- recent: payments of the customer in the 24 hours up to this one
SELECT
    transaction_id,
    count(*) OVER (
        PARTITION BY customer_id ORDER BY happened_at
        RANGE BETWEEN INTERVAL 1 DAY PRECEDING AND CURRENT ROW
    ) AS recent,
    day
FROM clean_transactions
"""


def test_features_of_ones_own_are_those_of_the_batch(home: Path) -> None:
    zone = Zone(home).describe()
    for day in days(4):
        zone.deliver(day, a_day_of_rows(day))
    (home / "features").mkdir()
    (home / "features" / "pace.sql").write_text(PACE)
    pipeline = zone.pipeline()
    put_any_model_live(pipeline, features=pipeline.state().feature_names)
    pipeline.update(days(4))
    said = batch(pipeline)
    model = FraudRealtime(today=lambda: START + timedelta(days=4))
    model.refresh()
    rows = [asked_for((*row, "EUR")) for row in reversed(a_day_of_rows(days(4)[-1]))]
    found = model.score(rows)
    assert found["transaction_id"].to_pylist() == [row.transaction_id for row in rows]
    assert [key for key, row in by_id(found).items() if not same(row, said[key])] == []
    model.close()
