import datetime
import json

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_assets.simulate import clock
from batch_assets.simulate.notation import transaction_ids, write_rows
from batch_assets.simulate.transactions import Transactions
from batch_assets.simulate.world import AMERICA, ASIA, EUROPE

DAY = datetime.date(2026, 3, 29)


def transactions(amounts: list[int], utc_ms: int = 0) -> Transactions:
    count = len(amounts)
    numbers = np.arange(count)
    return Transactions(
        day=DAY,
        number=numbers,
        customer=numbers,
        terminal=numbers * 2,
        utc_ms=np.full(count, utc_ms),
        amount=np.array(amounts, dtype=np.int64),
        pattern=np.zeros(count, dtype=np.uint8),
    )


def sound(rows: Transactions) -> np.ndarray:
    return np.zeros(len(rows), dtype=np.uint8)


def lines(table: pa.Table) -> list[str]:
    return [line.decode() for line in table["line"].to_pylist()]


def test_europe_writes_points_commas_and_its_own_clock() -> None:
    rows = transactions([123456, 5], utc_ms=clock.HOUR_MS)  # 01:00 UTC, when two o'clock is skipped
    assert lines(write_rows(EUROPE, rows, sound(rows))) == [
        "E260329-10000000;K0;H0;1.234,56 €;29.03.2026 03:00:00\n",
        "E260329-10000001;K1;H2;0,05 €;29.03.2026 03:00:00\n",
    ]


def test_america_writes_dollars_and_offsets() -> None:
    rows = transactions([123456], utc_ms=clock.HOUR_MS)
    (line,) = lines(write_rows(AMERICA, rows, sound(rows)))
    assert json.loads(line) == {
        "txn_id": "A260329-10000000",
        "card_holder": "C0",
        "merchant": "M0",
        "amt": "$1,234.56",
        "ts": "2026-03-28T21:00:00-04:00",
    }


def test_asia_writes_numbers() -> None:
    rows = transactions([123456], utc_ms=1)
    assert write_rows(ASIA, rows, sound(rows)).to_pylist() == [
        {
            "ledger_id": 26032910000000,
            "wallet": 0,
            "shop": 0,
            "value": 123456,
            "ccy": "JPY",
            "created_ms": 1774742400001,
        }
    ]
    assert transaction_ids(ASIA, rows).to_pylist() == ["J26032910000000"]


@settings(deadline=None)
@given(st.lists(st.integers(0, 999_999), min_size=1))
def test_amounts_can_be_read_back(cents: list[int]) -> None:
    rows = transactions(cents)
    europe = [line.split(";")[3] for line in lines(write_rows(EUROPE, rows, sound(rows)))]
    america = [json.loads(line)["amt"] for line in lines(write_rows(AMERICA, rows, sound(rows)))]
    assert america == [f"${c // 100:,}.{c % 100:02}" for c in cents]
    swapped = str.maketrans(",.", ".,")
    assert europe == [amount[1:].translate(swapped) + " €" for amount in america]


def test_no_rows_are_no_lines() -> None:
    for region in (EUROPE, AMERICA, ASIA):
        assert len(write_rows(region, transactions([]), sound(transactions([])))) == 0
