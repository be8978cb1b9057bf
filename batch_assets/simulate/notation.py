"""How each institution writes a transaction: three formats that agree in nothing.

Text formats give one finished line a row (binary, with its line end), so that whatever
happens to rows later is the same for all formats: a table is filtered, repeated, joined.
"""

import functools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batch_assets.simulate import clock
from batch_assets.simulate.flaws import Flaw, Flaws
from batch_assets.simulate.transactions import Transactions, pays_in_won
from batch_assets.simulate.world import AMERICA, ASIA, EUROPE, Region

Ints = npt.NDArray[np.int64]

EUROPE_HEADER = "Buchungsnummer;Kunde;Händler;Betrag;Zeitpunkt\n".encode()
FIRST_NUMBER = 10_000_000  # so that numbers have eight digits without padding
ASIA_PREFIX = "J"
FUTURE_DAYS = 730
BAD_BYTE = b"\xfc"  # u umlaut in latin-1, no UTF-8


def write_rows(region: Region, rows: Transactions, flaws: Flaws) -> pa.Table:
    """Rows in the region's notation: one column `line`, or columns for Parquet."""
    return _NOTATIONS[region](rows, flaws)


def transaction_ids(region: Region, rows: Transactions) -> pa.Array:
    """Keys as text, the feed's prefix included, as other feeds refer to them."""
    if region is ASIA:
        return _joined(ASIA_PREFIX, pa.array(_asia_keys(rows)).cast(pa.string()))
    number = pa.array(rows.number + FIRST_NUMBER).cast(pa.string())
    return _joined(f"{'E' if region is EUROPE else 'A'}{rows.day:%y%m%d}-", number)


def iso_times(region: Region, rows: Transactions, milliseconds: bool = False) -> pa.Array:
    """Local times with their offset from UTC, in ISO 8601."""
    local = clock.local_time(region.time_zone, rows.day, rows.utc_ms)
    date = clock.date_text(rows.day, local, "%Y-%m-%d")
    offset = clock.offset_text(region.time_zone, rows.day, rows.utc_ms)
    if milliseconds:
        thousandths = _padded_table(".", 3).take(pa.array(local % 1000))
        return _joined(date, "T", clock.clock_text(local), thousandths, offset)
    return _joined(date, "T", clock.clock_text(local), offset)


def _europe(rows: Transactions, flaws: Flaws) -> pa.Table:
    """CSV lines: semicolons, `1.234,56 €`, German local time without an offset."""
    local = clock.local_time(EUROPE.time_zone, rows.day, rows.utc_ms)
    gap = clock.spring_gap(EUROPE.time_zone, rows.day)
    if gap is not None:
        inside = gap[0] * 1000 + local % clock.HOUR_MS
        local = np.where(flaws == Flaw.NO_SUCH_LOCAL_TIME, inside, local)
    amount = _joined(_money(rows.amount, ".", ","), " €")
    fields = (
        transaction_ids(EUROPE, rows),
        _without(_named("K", rows.customer), flaws, Flaw.MISSING_CUSTOMER),
        _without(_named("H", rows.terminal), flaws, Flaw.MISSING_TERMINAL),
        _amount_with(amount, flaws, "siehe Anlage", negative="-"),
        _joined(clock.date_text(rows.day, local, "%d.%m.%Y"), " ", clock.clock_text(local)),
    )
    present = [field.fill_null("") for field in fields]
    line = pc.binary_join_element_wise(*present, ";")
    return _lines(_joined(line, "\n"), flaws)


def _america(rows: Transactions, flaws: Flaws) -> pa.Table:
    """JSON lines: `$1,234.56`, ISO times with an offset, some in UTC.

    A missing customer or amount is null, a missing merchant is left out altogether.
    """
    in_utc = pa.array(rows.customer % 10 == 7)
    utc = _joined(f"{rows.day}T", clock.clock_text(rows.utc_ms), "Z")
    amount = _joined("$", _money(rows.amount, ",", "."))
    customer = _without(_joined('"C', _text(rows.customer), '"'), flaws, Flaw.MISSING_CUSTOMER)
    merchant = _joined('"merchant":"M', _text(rows.terminal), '",')
    money = _joined('"', _amount_with(amount, flaws, "N/A", negative="-"), '"')
    line = _joined(
        *('{"txn_id":"', transaction_ids(AMERICA, rows), '","card_holder":'),
        *(customer.fill_null("null"), ","),
        *(_without(merchant, flaws, Flaw.MISSING_TERMINAL).fill_null(""), '"amt":'),
        *(money.fill_null("null"), ',"ts":"'),
        *(pc.if_else(in_utc, utc, iso_times(AMERICA, rows)), '"}\n'),
    )
    return _lines(line, flaws)


def _asia(rows: Transactions, flaws: Flaws) -> pa.Table:
    """Columns for Parquet: whole yen or won, numbers as ids, epoch milliseconds."""
    midnight = np.datetime64(rows.day, "ms").astype(np.int64)
    future = np.where(flaws == Flaw.FUTURE_DATE, FUTURE_DAYS * clock.DAY_MS, 0)
    currency = pc.if_else(pa.array(pays_in_won(rows.customer)), "KRW", "JPY")
    unknown = pa.array(flaws == Flaw.UNKNOWN_CURRENCY)
    return pa.table(
        {
            "ledger_id": pa.array(_asia_keys(rows)),
            "wallet": pa.array(rows.customer, mask=flaws == Flaw.MISSING_CUSTOMER),
            "shop": pa.array(rows.terminal, mask=flaws == Flaw.MISSING_TERMINAL),
            "value": pa.array(rows.amount, mask=flaws == Flaw.MISSING_AMOUNT),
            "ccy": pc.if_else(unknown, "XTS", currency),
            "created_ms": pa.array(midnight + rows.utc_ms + future),
        }
    )


_NOTATIONS: dict[Region, Callable[[Transactions, Flaws], pa.Table]] = {
    EUROPE: _europe,
    AMERICA: _america,
    ASIA: _asia,
}


def _asia_keys(rows: Transactions) -> Ints:
    return rows.number + FIRST_NUMBER + int(f"{rows.day:%y%m%d}") * 10 * FIRST_NUMBER


def _lines(line: pa.Array, flaws: Flaws) -> pa.Table:
    """Finished lines; those of rows that break on their way get broken here."""
    line = line.cast(pa.binary())
    for flaw, spoil in _SPOILT.items():
        hit = flaws == flaw
        if hit.any():
            spoilt = [spoil(text) for text in line.filter(pa.array(hit)).to_pylist()]
            line = pc.replace_with_mask(line, pa.array(hit), pa.array(spoilt, pa.binary()))
    return pa.table({"line": line})


_SPOILT: dict[Flaw, Callable[[bytes], bytes]] = {
    Flaw.INVALID_JSON: lambda line: line[: len(line) * 2 // 3] + b"\n",
    Flaw.INVALID_UTF8: lambda line: line.replace(b";K", b";K" + BAD_BYTE),
}


def _amount_with(amount: pa.Array, flaws: Flaws, nonsense: str, negative: str) -> pa.Array:
    amount = pc.if_else(pa.array(flaws == Flaw.UNPARSABLE_AMOUNT), nonsense, amount)
    below_zero = pa.array(flaws == Flaw.NEGATIVE_AMOUNT)
    amount = pc.if_else(below_zero, _joined(negative, amount), amount)
    return _without(amount, flaws, Flaw.MISSING_AMOUNT)


def _without(texts: pa.Array, flaws: Flaws, missing: Flaw) -> pa.Array:
    return pc.if_else(pa.array(flaws == missing), pa.scalar(None, pa.string()), texts)


def _money(cents: Ints, thousands: str, decimal: str) -> pa.Array:
    """Amounts below 10,000 with both separators."""
    whole = _grouped_table(thousands).take(pa.array(cents // 100))
    return _joined(whole, _padded_table(decimal, 2).take(pa.array(cents % 100)))


@functools.cache
def _grouped_table(thousands: str) -> pa.Array:
    return pa.array([f"{number:,}".replace(",", thousands) for number in range(10_000)])


@functools.cache
def _padded_table(before: str, digits: int) -> pa.Array:
    return pa.array([f"{before}{number:0{digits}}" for number in range(10**digits)])


def _named(letter: str, numbers: Ints) -> pa.Array:
    return _joined(letter, _text(numbers))


def _text(numbers: Ints) -> pa.Array:
    return pa.array(numbers).cast(pa.string())


def _joined(*parts: pa.Array | str) -> pa.Array:
    """Texts put together; null where any part is null."""
    return pc.binary_join_element_wise(*parts, "")
