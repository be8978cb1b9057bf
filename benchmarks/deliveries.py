"""Landing files for the benchmarks, written by DuckDB: any number of rows, in any format."""

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import duckdb

DAY = date(2026, 1, 1)
FEED = """\
feeds:
  acquirer:
    glob: acquirer/{{day}}/*.{ending}
    format: {format}
    currency: EUR
    columns:
      key: transaction_id
      customer: card
      terminal: device
      amount: amount
      time: authorised_at
      label: chargeback
"""
EUROPEAN = """\
    delimiter: ";"
    decimal: ","
    time_zone: Europe/Berlin
    time_format: "%d.%m.%Y %H:%M:%S"
"""
# one transaction in a hundred is a fraud, and of a larger amount
SELECT = """\
WITH numbers AS (
    SELECT if(hash(range + 11) % 10000 < $repeated * 10000, range - 1, range) AS n
    FROM range($first, $last)
),
made AS (
    SELECT
        'T' || lpad(n::VARCHAR, 12, '0') AS transaction_id,
        'C' || (hash(n) % $customers)::VARCHAR AS card,
        'D' || (hash(n + 7) % $terminals)::VARCHAR AS device,
        hash(n + 3) % 100 < 1 AS fraud,
        hash(n + 1) % 30000 + fraud::INTEGER * 250000 AS hundredths,
        $day::DATE + to_seconds(3600 + (hash(n + 2) % 82800)::INTEGER) AS moment
    FROM numbers
)
SELECT
    transaction_id,
    card,
    device,
    {amount} AS amount,
    {time} AS authorised_at,
    fraud::INTEGER AS chargeback
FROM made
"""
PLAIN = {"amount": "(hundredths / 100)::DECIMAL(18, 2)", "time": "moment"}
LOCAL = {
    "amount": "format('{:t.}', hundredths // 100) || ',' "
    "|| lpad((hundredths % 100)::VARCHAR, 2, '0') || ' €'",
    "time": "strftime(moment, '%d.%m.%Y %H:%M:%S')",
}


@dataclass(frozen=True)
class Delivery:
    """How the files are written.

    Args:
        ending: ``parquet``, ``csv``, ``csv.gz`` or ``jsonl``.
        repeated: share of the rows that say again what another one says.
        european: CSV with ``;``, ``1.234,56 €`` and local times.
        files: number of files a day.
    """

    ending: str
    repeated: float = 0.0
    european: bool = False
    files: int = 1
    days: int = 1
    customers: int = 20_000
    terminals: int = 5_000

    @property
    def format(self) -> str:
        return self.ending.split(".")[0]

    @property
    def last_day(self) -> date:
        return DAY + timedelta(days=self.days - 1)


def deliver(home: Path, rows: int, how: Delivery) -> None:
    """Write a data home with ``rows`` transactions and their labels, over the delivery's days."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "settings.toml").write_text(f"start_date = {DAY}\n", encoding="utf-8")
    feed = FEED.format(ending=how.ending, format=how.format)
    if how.european:
        feed = feed.replace("    columns:", f"{EUROPEAN}    columns:")
    (home / "feeds.yaml").write_text(feed, encoding="utf-8")
    select = SELECT.format(**(LOCAL if how.european else PLAIN))
    options = {
        "parquet": "FORMAT parquet, COMPRESSION zstd",
        "csv": f"FORMAT csv, HEADER, DELIMITER '{';' if how.european else ','}'",
        "jsonl": "FORMAT json",
    }[how.format]
    parts = how.days * how.files
    with duckdb.connect(config={"memory_limit": "1GB", "preserve_insertion_order": False}) as made:
        made.execute("SET enable_progress_bar = false")
        for part in range(parts):
            day = DAY + timedelta(days=part // how.files)
            folder = home / "landing" / "acquirer" / str(day)
            folder.mkdir(parents=True, exist_ok=True)
            made.execute(
                f"COPY ({select}) TO '{folder}/part-{part:04}.{how.ending}' ({options})",
                {
                    "first": rows * part // parts,
                    "last": rows * (part + 1) // parts,
                    "repeated": how.repeated,
                    "customers": how.customers,
                    "terminals": how.terminals,
                    "day": day,
                },
            )
