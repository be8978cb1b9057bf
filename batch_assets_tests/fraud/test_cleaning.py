"""What becomes of good, bad, repeated and corrected records."""

import gzip
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from batch_assets.fraud import tables
from batch_assets.fraud.pipeline import Pipeline
from batch_assets_tests.fraud.zone import (
    START,
    Zone,
    contents,
    days,
    put_any_model_live,
    rows_of,
)

AT = "2026-01-01T10:00:00"
GOOD = ("k1", "anna", "kiosk", "12.50", AT)


@pytest.fixture
def zone(home: Path) -> Zone:
    return Zone(home).describe()


def update(zone: Zone, count: int = 3) -> Pipeline:
    pipeline = zone.pipeline()
    pipeline.update(days(count))
    return pipeline


def reasons(pipeline: Pipeline) -> list[str]:
    found = rows_of(pipeline, tables.QUARANTINED_TRANSACTIONS)
    return sorted(reason for row in found for reason in row["reasons"])


def keys(pipeline: Pipeline) -> list[str]:
    return sorted(r["transaction_id"] for r in rows_of(pipeline, tables.CLEAN_TRANSACTIONS))


def test_a_good_record_is_clean(zone: Zone) -> None:
    zone.deliver(START, [GOOD])
    (row,) = rows_of(update(zone), tables.CLEAN_TRANSACTIONS)
    assert row["transaction_id"] == "k1"
    assert row["amount"] == Decimal("12.50")
    assert row["original_currency"] == "EUR"
    assert row["exchange_rate"] == 1
    assert (row["feed"], row["file"], row["row_number"]) == ("shop", f"shop/{START}/a.csv", 1)
    assert row["day"] == row["arrived_on"] == START


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (("", "anna", "kiosk", "1", AT), "the key is missing"),
        (("k", "", "kiosk", "1", AT), "the customer is missing"),
        (("k", "anna", " ", "1", AT), "the terminal is missing"),
        (("k", "anna", "kiosk", "", AT), "the amount is missing"),
        (("k", "anna", "kiosk", "twelve", AT), "the amount 'twelve' is not a number"),
        (("k", "anna", "kiosk", "12,5", AT), "the amount '12,5' is not a number"),
        (("k", "anna", "kiosk", "1.23456", AT), "the amount '1.23456' is not a number"),
        (("k", "anna", "kiosk", "NaN", AT), "the amount 'NaN' is not a number"),
        (("k", "anna", "kiosk", "1e3", AT), "the amount '1e3' is not a number"),
        (("k", "anna", "kiosk", "-5", AT), "the amount -5 is negative"),
        (("k", "anna", "kiosk", "5", AT, "XQQ"), "the currency 'XQQ' is not an ISO 4217 code"),
        (("k", "anna", "kiosk", "$5", AT, "JPY"), "there is no exchange rate for JPY"),
        (("k", "anna", "kiosk", "€5", AT, "USD"), "the amount '€5' contradicts the currency USD"),
        (("k", "anna", "kiosk", "5", AT, "USD"), "there is no exchange rate for USD"),
        (("k", "anna", "kiosk", "5", ""), "the time is missing"),
        (("k", "anna", "kiosk", "5", "yesterday"), "the time 'yesterday' is not of the format iso"),
        (("k", "anna", "kiosk", "5", "2026-02-30"), "the time '2026-02-30' is not of the format"),
        (("k", "anna", "kiosk", "5", "2031-01-01"), "lies in the future of its arrival"),
        (("k", "anna", "kiosk", "5", "2025-12-31"), "lies before the first partition"),
    ],
)
def test_a_bad_record_is_quarantined_with_its_reason_and_stops_no_other(
    zone: Zone, record: Sequence[str], reason: str
) -> None:
    zone.deliver(START, [GOOD, record])
    pipeline = update(zone)
    assert keys(pipeline) == ["k1"]
    (found,) = reasons(pipeline)
    assert reason in found


def test_every_reason_of_a_record_is_given(zone: Zone) -> None:
    zone.deliver(START, [("", "", "kiosk", "-1", "never")])
    assert len(reasons(update(zone))) == 4


@pytest.mark.parametrize("text", ["1,234.50", "$1,234.50", "USD 1,234.5", "1 234.5", "1234.5000"])
def test_amounts_are_exact_in_any_notation(zone: Zone, text: str) -> None:
    zone.rate(START, [(START, "USD", "0.8123456789")])
    zone.deliver(START, [("k", "anna", "kiosk", text, AT, "USD")])
    (row,) = rows_of(update(zone), tables.CLEAN_TRANSACTIONS)
    assert row["original_amount"] == Decimal("1234.5")
    assert row["amount"] == Decimal("1002.84")  # 1234.5 x 0.8123456789 = 1002.8407…


def test_large_amounts_are_converted_exactly_and_scored(zone: Zone) -> None:
    amounts = ["99000.00", "9999999999.99", "12345678901234.56"]
    zone.rate(START, [(START, "JPY", "0.0061234567"), (START, "KWD", "999.1234567891")])
    zone.deliver(
        START,
        [
            *((f"e{n}", "anna", "kiosk", text, AT, "EUR") for n, text in enumerate(amounts)),
            ("yen", "ben", "kiosk", "98765432109.25", AT, "JPY"),
            ("dinar", "ben", "kiosk", "12345678901234.56", AT, "KWD"),
        ],
    )
    pipeline = zone.pipeline()
    put_any_model_live(pipeline)
    pipeline.update(days(2))
    clean = {r["transaction_id"]: r["amount"] for r in rows_of(pipeline, tables.CLEAN_TRANSACTIONS)}
    assert clean == {
        **{f"e{n}": Decimal(text) for n, text in enumerate(amounts)},
        "yen": Decimal("604785846.98"),
    }
    assert reasons(pipeline) == ["the amount 12345678901234.56 is too large"]
    assert len(rows_of(pipeline, tables.FRAUD_PREDICTIONS)) == len(clean)


def test_the_same_content_again_is_a_duplicate_wherever_it_comes(zone: Zone) -> None:
    zone.deliver(START, [GOOD, GOOD])
    zone.deliver(START, [GOOD], "b.csv")
    zone.deliver(date(2026, 1, 2), [GOOD, ("k2", "bert", "kiosk", "3", AT)])
    pipeline = update(zone)
    assert keys(pipeline) == ["k1", "k2"]
    duplicates = rows_of(pipeline, tables.DUPLICATE_TRANSACTIONS)
    assert len(duplicates) == 3
    assert {(d["kept_file"], d["kept_row_number"]) for d in duplicates} == {
        (f"shop/{START}/a.csv", 1)
    }
    assert reasons(pipeline) == []


@pytest.mark.parametrize("other_time", [AT, "2026-01-02T09:00:00"])
def test_other_content_is_quarantined(zone: Zone, other_time: str) -> None:
    zone.deliver(START, [GOOD])
    zone.deliver(date(2026, 1, 2), [("k1", "anna", "kiosk", "99", other_time)])
    pipeline = update(zone)
    (row,) = rows_of(pipeline, tables.CLEAN_TRANSACTIONS)
    assert row["amount"] == Decimal("12.50")
    assert "delivered with other content" in reasons(pipeline)[0]


@pytest.mark.parametrize("other_time", [AT, "2026-01-02T09:00:00"])
def test_a_feed_may_correct_itself(home: Path, other_time: str) -> None:
    zone = Zone(home).describe(corrections="replace")
    zone.deliver(START, [GOOD])
    zone.deliver(date(2026, 1, 2), [("k1", "anna", "kiosk", "99", other_time)])
    pipeline = update(zone)
    (row,) = rows_of(pipeline, tables.CLEAN_TRANSACTIONS)
    assert row["amount"] == Decimal("99.00")
    (replaced,) = rows_of(pipeline, tables.DUPLICATE_TRANSACTIONS)
    assert replaced["superseded"]
    assert reasons(pipeline) == []


def test_a_bad_delivery_does_not_stand_in_the_way_of_a_good_one(zone: Zone) -> None:
    zone.deliver(START, [("k1", "anna", "kiosk", "", AT)])
    zone.deliver(date(2026, 1, 2), [GOOD])
    pipeline = update(zone)
    assert keys(pipeline) == ["k1"]
    assert reasons(pipeline) == ["the amount is missing"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_conflicts_over_days_end_the_same_in_any_order_of_arrival(
    zone: Zone, order: Sequence[int]
) -> None:
    first = (START, [("k1", "anna", "kiosk", "1", "2026-01-01T10:00:00")])
    second = (date(2026, 1, 2), [("k1", "anna", "kiosk", "2", "2026-01-02T10:00:00")])
    pipeline = zone.pipeline()
    for n in order:
        day, rows = (first, second)[n]
        zone.deliver(day, rows)
        pipeline.update(days(3))
    (row,) = rows_of(pipeline, tables.CLEAN_TRANSACTIONS)
    assert row["day"] == START
    assert len(reasons(pipeline)) == 1


def test_a_time_that_does_not_exist_and_one_that_exists_twice(home: Path) -> None:
    zone = Zone(home).describe(time_zone="Europe/Berlin")
    spring, autumn = date(2026, 3, 29), date(2026, 10, 25)
    zone.deliver(spring, [("gap", "anna", "kiosk", "1", "2026-03-29 02:30:00")])
    zone.deliver(autumn, [("twice", "anna", "kiosk", "1", "2026-10-25 02:30:00")])
    pipeline = zone.pipeline()
    pipeline.update([spring, autumn])
    (row,) = rows_of(pipeline, tables.CLEAN_TRANSACTIONS)
    assert str(row["happened_at"]) == "2026-10-25 00:30:00"  # the earlier of the two
    assert str(row["local_time"]) == "2026-10-25 02:30:00"
    assert "does not exist in Europe/Berlin" in reasons(pipeline)[0]


def test_a_rate_stands_in_for_a_missing_one_for_some_days(zone: Zone) -> None:
    zone.rate(START, [(START, "USD", "0.5")])
    for day in days(8):
        zone.deliver(day, [(f"k{day}", "anna", "kiosk", "10", f"{day}T10:00:00", "USD")])
    pipeline = update(zone, 8)
    assert keys(pipeline) == [f"k{day}" for day in days(5)]
    assert len(reasons(pipeline)) == 3
    rates = {r["day"]: r["published_on"] for r in rows_of(pipeline, tables.EXCHANGE_RATES)}
    assert rates == dict.fromkeys(days(5), START)


def test_a_rate_that_arrives_late_frees_what_waited_for_it(zone: Zone) -> None:
    zone.deliver(START, [("k", "anna", "kiosk", "10", AT, "USD")])
    pipeline = update(zone)
    assert keys(pipeline) == []
    zone.rate(date(2026, 1, 2), [(START, "USD", "0.5")])
    pipeline.update(days(3))
    assert keys(pipeline) == ["k"]
    assert reasons(pipeline) == []


def test_contradicting_rates_and_labels_are_quarantined(zone: Zone) -> None:
    zone.deliver(START, [GOOD])
    zone.rate(START, [(START, "USD", "0.5"), (START, "USD", "0.6"), (START, "USD", "zero")])
    zone.label(START, [("k1", AT, "1"), ("k1", AT, "0"), ("k1", AT, "1"), ("k1", AT, "perhaps")])
    pipeline = update(zone)
    assert len(rows_of(pipeline, tables.QUARANTINED_RATES)) == 2
    assert len(rows_of(pipeline, tables.QUARANTINED_LABELS)) == 2
    (label,) = rows_of(pipeline, tables.FRAUD_LABELS)
    assert label["is_fraud"] is True


def test_a_truncated_archive_gives_what_it_holds_and_says_so(zone: Zone) -> None:
    lines = [f"k{n},c{n % 7},s{n % 5},{n}.50,{AT},EUR" for n in range(500)]
    packed = gzip.compress(("id,who,where,amount,at,ccy\n" + "\n".join(lines) + "\n").encode())
    zone.write(f"shop/{START}/whole.csv", packed[: len(packed) // 2])
    pipeline = update(zone)
    found = rows_of(pipeline, tables.CLEAN_TRANSACTIONS)
    assert 0 < len(found) < 500
    assert all(row["amount"] == Decimal(f"{row['transaction_id'][1:]}.50") for row in found)
    (reason,) = reasons(pipeline)
    assert "truncated" in reason


def test_empty_files_and_empty_days_are_no_trouble(zone: Zone) -> None:
    zone.write(f"shop/{START}/empty.csv", "")
    zone.write(f"shop/{START}/header.csv", "id,who,where,amount,at,ccy\n")
    pipeline = update(zone)
    assert reasons(pipeline) == []
    notes = {r["file"]: r["note"] for r in rows_of(pipeline, tables.INGESTED_FILES)}
    assert notes == {
        f"shop/{START}/empty.csv": "the file is empty",
        f"shop/{START}/header.csv": "the file holds no record",
    }
    assert set(pipeline.warehouse.snapshot(tables.CLEAN_TRANSACTIONS).by_day) == set(days(3))


def test_a_copied_file_is_no_news(zone: Zone) -> None:
    original = zone.deliver(START, [GOOD, ("k2", "bert", "kiosk", "3", AT)])
    before = contents(update(zone))
    zone.write(f"shop/{date(2026, 1, 2)}/again.csv", original.read_bytes())
    pipeline = update(zone)
    assert contents(pipeline) == before
    copies = {r["file"]: r["copy_of"] for r in rows_of(pipeline, tables.INGESTED_FILES)}
    assert copies["shop/2026-01-02/again.csv"] == f"shop/{START}/a.csv"


def test_a_column_that_vanished_is_named(zone: Zone) -> None:
    zone.deliver(START, [GOOD])
    zone.write(f"shop/{START}/b.csv", f"id,who,where,at,ccy\nk2,anna,kiosk,{AT},EUR\n")
    pipeline = update(zone)
    assert keys(pipeline) == ["k1"]
    assert "file has no column amount" in reasons(pipeline)[0]


def test_every_record_is_accounted_for(zone: Zone) -> None:
    mixed: list[Any] = [GOOD, GOOD, ("k1", "x", "y", "9", AT), ("k3", "", "y", "9", AT)]
    zone.deliver(START, mixed)
    pipeline = update(zone)
    counts = [
        len(rows_of(pipeline, t))
        for t in (
            tables.CLEAN_TRANSACTIONS,
            tables.QUARANTINED_TRANSACTIONS,
            tables.DUPLICATE_TRANSACTIONS,
        )
    ]
    assert counts == [1, 2, 1]
    assert sum(counts) == len(rows_of(pipeline, tables.RAW_TRANSACTIONS))
