"""A small landing zone for tests: one CSV feed of transactions, one of labels, one of rates."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from batch_assets.fraud import tables
from batch_assets.fraud.embeddings import EMBEDDINGS
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.fraud.run import open_pipeline
from batch_assets.storage.tables import Table

START = date(2026, 1, 1)
FEEDS = """
feeds:
  shop:
    glob: shop/{day}/*.csv
    format: csv
    time_zone: %(time_zone)s
    corrections: %(corrections)s
    columns: {key: id, customer: who, terminal: where, amount: amount, time: at, currency: ccy}
  reports:
    kind: labels
    glob: reports/{day}/*.csv
    format: csv
    columns: {key: id, time: at, label: fraud}
  rates:
    kind: rates
    glob: rates/{day}/*.csv
    format: csv
    columns: {time: day, currency: ccy, rate: rate}
"""


def days(count: int, first: date = START) -> list[date]:
    return [first + timedelta(days=n) for n in range(count)]


@dataclass(frozen=True)
class Zone:
    """Writes files as sources would."""

    home: Path

    def describe(self, corrections: str = "quarantine", time_zone: str = "UTC") -> "Zone":
        text = FEEDS % {"corrections": corrections, "time_zone": time_zone}
        (self.home / "feeds.yaml").write_text(text)
        (self.home / "settings.toml").write_text(f"start_date = {START}\n")
        return self

    def deliver(self, day: date, rows: Iterable[Sequence[object]], name: str = "a.csv") -> Path:
        """Rows of id, customer, terminal, amount, time, and optionally the currency."""
        padded = [[*row, "EUR"][:6] for row in rows]
        return self._write(
            f"shop/{day}/{name}", ("id", "who", "where", "amount", "at", "ccy"), padded
        )

    def label(self, day: date, rows: Iterable[Sequence[object]], name: str = "l.csv") -> Path:
        """Rows of id, time of the transaction, 1 or 0."""
        return self._write(f"reports/{day}/{name}", ("id", "at", "fraud"), rows)

    def rate(self, day: date, rows: Iterable[Sequence[object]], name: str = "r.csv") -> Path:
        """Rows of day, currency, rate."""
        return self._write(f"rates/{day}/{name}", ("day", "ccy", "rate"), rows)

    def write(self, path: str, text: str | bytes) -> Path:
        target = self.home / "landing" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text if isinstance(text, bytes) else text.encode())
        return target

    def _write(self, path: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
        text = io.StringIO()
        csv.writer(text).writerows([header, *rows])
        return self.write(path, text.getvalue())

    def pipeline(self) -> Pipeline:
        return open_pipeline()


def a_day_of_rows(day: date, count: int = 12, salt: str = "") -> list[tuple[object, ...]]:
    """Plausible rows of one day, always the same for the same arguments."""
    rows: list[tuple[object, ...]] = []
    for n in range(count):
        at = datetime(day.year, day.month, day.day) + timedelta(seconds=7001 * n + day.day)
        amount = f"{(n * 37 + day.day * 11) % 97 + 0.25:.2f}"
        rows.append((f"t{salt}-{day}-{n}", f"c{n % 5}", f"s{n % 3}", amount, at))
    return rows


def rows_of(pipeline: Pipeline, table: Table) -> list[dict[str, Any]]:
    """All rows of a table in one fixed order."""
    with pipeline.warehouse.connect() as connection:
        found = pipeline.warehouse.snapshot(table).relation(connection).to_arrow_table().to_pylist()
    return sorted(found, key=lambda row: str(sorted(row.items(), key=lambda item: item[0])))


def contents(pipeline: Pipeline) -> dict[str, list[dict[str, Any]]]:
    """Everything that a person can read, but for times and costs, and for looking at files."""
    left_out = (tables.INGESTED_FILES, tables.REPEATED_KEYS, tables.INFERENCE_LEDGER)
    compared = [t for t in tables.TABLES if t not in left_out]
    found = {
        table.name: [
            {k: v for k, v in row.items() if k != "scored_at"} for row in rows_of(pipeline, table)
        ]
        for table in compared
    }
    if pipeline.vectors.exists(EMBEDDINGS):
        import lance

        vectors = lance.dataset(pipeline.vectors.table_uri(EMBEDDINGS)).to_table().to_pylist()
        found[EMBEDDINGS.name] = sorted(vectors, key=lambda row: row["transaction_id"])
    return found


def built_days(pipeline: Pipeline) -> dict[str, dict[date, str]]:
    """Key of each day of each table."""
    return {table.name: pipeline.warehouse.snapshot(table).keys for table in tables.TABLES}


def put_any_model_live(pipeline: Pipeline, seed: int = 0, **card: Any) -> str:
    """A network with random weights, good enough to score with."""
    from batch_assets.fraud.scorer import MODEL

    version = save_any_model(pipeline, seed, **card)
    pipeline.models.promote(version, MODEL)
    return version


def save_any_model(pipeline: Pipeline, seed: int = 0, **card: Any) -> str:
    """The same, as a candidate.

    Args:
        card: fields of the card that are to be other ones.
    """
    import torch

    from batch_assets.fraud.features import FEATURES
    from batch_assets.fraud.scorer import MODEL
    from batch_assets.inference.network import TabularNetwork

    torch.manual_seed(seed)
    names = card.get("features", [feature.name for feature in FEATURES])
    network = TabularNetwork(len(names))
    rng = torch.Generator().manual_seed(seed)
    network.fit_encoding(torch.rand((500, len(names)), generator=rng).numpy() * 100)
    whole_card = {
        "name": MODEL,
        "kind": "tabular_network",
        "features": names,
        "training_days": [],
        "metrics": {},
        **card,
    }
    tensors = {k: v.clone() for k, v in network.state_dict().items()}
    return pipeline.models.save(tensors, whole_card)
