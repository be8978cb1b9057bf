"""An independent reader of what the simulator delivers: standard library, row by row."""

import csv
import datetime
import functools
import gzip
import io
import json
import pathlib
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow.parquet as pq

from batch_assets.simulate import SimulationSummary, simulate

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)

simulate_few = functools.partial(simulate, customers=400, terminals=700)


@dataclass(frozen=True)
class Row:
    """One delivered row; None for what is missing or cannot be understood."""

    feed: str
    file: str
    arrived: datetime.date
    key: str | None
    customer: str | None
    terminal: str | None
    amount: Decimal | None
    amount_text: str | None
    currency: str
    happened_at: datetime.datetime | None  # with a time zone
    valid_time: bool

    @property
    def day(self) -> datetime.date | None:
        """UTC day on which it happened."""
        return self.happened_at and self.happened_at.astimezone(datetime.UTC).date()


@dataclass(frozen=True)
class Delivered:
    """A simulated data home with what it says of itself and what stands in its files."""

    home: pathlib.Path
    summary: SimulationSummary
    rows: list[Row]


def received(landing: pathlib.Path) -> list[Row]:
    """All rows of all transaction files but those cut in mid-stream."""
    readers = {"europe_cards": _europe, "america_pos": _america, "asia_wallet": _asia}
    rows = []
    for feed, reader in readers.items():
        for path in sorted(landing.glob(f"{feed}/*/*")):
            try:
                records = list(reader(path))
            except EOFError:
                continue
            arrived = datetime.date.fromisoformat(path.parent.name)
            rows += [Row(feed, path.name, arrived, **record) for record in records]
    return rows


def _europe(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    text = gzip.decompress(path.read_bytes()).decode(errors="replace")
    for record in csv.DictReader(io.StringIO(text), delimiter=";"):
        local = datetime.datetime.strptime(record["Zeitpunkt"], "%d.%m.%Y %H:%M:%S")
        moment = local.replace(tzinfo=BERLIN)
        number = record["Betrag"].removesuffix(" €").replace(".", "").replace(",", ".")
        yield {
            "key": record["Buchungsnummer"],
            "customer": record["Kunde"] or None,
            "terminal": record["Händler"] or None,
            "amount": _decimal(number),
            "amount_text": record["Betrag"] or None,
            "currency": "EUR",
            "happened_at": moment,
            "valid_time": moment.astimezone(datetime.UTC).astimezone(BERLIN).hour == local.hour,
        }


def _america(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text().splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            record = {"txn_id": None, "card_holder": None, "amt": None, "ts": None}
        amount = record["amt"]
        yield {
            "key": record["txn_id"],
            "customer": record["card_holder"],
            "terminal": record.get("merchant"),
            "amount": amount and _decimal(amount.replace("$", "").replace(",", "")),
            "amount_text": amount,
            "currency": "USD",
            "happened_at": record["ts"] and datetime.datetime.fromisoformat(record["ts"]),
            "valid_time": record["ts"] is not None,
        }


def _asia(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    for record in pq.read_table(path).to_pylist():
        moment = EPOCH + datetime.timedelta(milliseconds=record["created_ms"])
        yield {
            "key": f"J{record['ledger_id']}",
            "customer": None if record["wallet"] is None else f"J{record['wallet']}",
            "terminal": None if record["shop"] is None else f"J{record['shop']}",
            "amount": None if record["value"] is None else Decimal(record["value"]),
            "amount_text": None if record["value"] is None else str(record["value"]),
            "currency": record["ccy"],
            "happened_at": moment,
            "valid_time": moment < datetime.datetime(2028, 1, 1, tzinfo=datetime.UTC),
        }


def _decimal(text: str) -> Decimal | None:
    try:
        return Decimal(text)
    except InvalidOperation:
        return None
