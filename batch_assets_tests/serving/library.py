"""A small workload that is served in tests: loans of books, scored by how likely they are late."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from batch_assets.serving.budget import Budget
from batch_assets.serving.lookup import Lookups
from batch_assets.serving.view import View
from batch_assets.serving.views import Views
from batch_assets.serving.workload import Workload
from batch_assets.storage.models import ModelStore
from batch_assets.storage.tables import Table
from batch_assets.storage.vectors import VectorStore, VectorTable
from batch_assets.storage.warehouse import StagedFile, Warehouse

FIRST = date(2026, 3, 1)
SIZE = 4
PREDICTIONS = Table(
    "loan_scores",
    {
        "loan": (pa.string(), "Key."),
        "reader": (pa.string(), "Who."),
        "shelf": (pa.int64(), "Where from."),
        "lent_at": (pa.timestamp("us"), "UTC."),
        "pages": (pa.float64(), "Of the book; null if nobody counted."),
        "score": (pa.float32(), "How likely it comes back late."),
        "model_version": (pa.string(), "Model that scored."),
        "scored_at": (pa.timestamp("us"), "UTC."),
        "day": (pa.date32(), "UTC day."),
    },
    "One score a loan.",
)
VECTORS = VectorTable(
    name="loan_vectors",
    schema=pa.schema(
        [
            *(f for f in PREDICTIONS.schema if f.name != "scored_at"),
            pa.field("vector", pa.list_(pa.float32(), SIZE)),
            pa.field("scoring_key", pa.string()),
        ]
    ),
    key="loan",
    btree=("reader",),
)
LOANS = Workload(
    name="loans",
    key="loan",
    time="lent_at",
    score="score",
    predictions=PREDICTIONS,
    vectors=VECTORS,
    entities={"readers": "reader", "shelves": "shelf"},
    equals=("reader", "shelf"),
    ranges=("pages", "score"),
)


def day_number(n: int) -> date:
    return FIRST + timedelta(days=n)


def loans_of(day: date, count: int, version: str) -> list[dict[str, Any]]:
    """Rows of a day, always the same; scores and times of scoring tell the version."""
    at = datetime(day.year, day.month, day.day)
    scored = datetime(2026, 6, 1) + timedelta(seconds=sum(map(ord, version)))
    return [
        {
            "loan": f"{day:%m%d}-{n}",
            "reader": f"r{n % 7}",
            "shelf": n % 3,
            "lent_at": at + timedelta(seconds=10 * (n // 2)),  # two at a time
            "pages": None if n % 5 == 0 else n + 0.5,
            "score": float(np.float32(sum(map(ord, version)) / 10_000 + n / 1e6)),
            "model_version": version,
            "scored_at": scored,
            "day": day,
        }
        for n in range(count)
    ]


@dataclass
class Library:
    """A data home with loans, and what a server has of it."""

    home: Path
    memory: int = 50_000_000
    workload: Workload = LOANS
    with_vectors: bool = True
    published: dict[date, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.home / ".serving"

    @property
    def budget(self) -> Budget:
        return Budget(self.memory)

    @cached_property
    def warehouse(self) -> Warehouse:
        return Warehouse(str(self.home / "warehouse"))

    @cached_property
    def vectors(self) -> VectorStore:
        return VectorStore(str(self.home / "vectors"))

    @cached_property
    def models(self) -> ModelStore:
        return ModelStore(self.home / "models")

    @cached_property
    def views(self) -> Views:
        return Views(self)

    @cached_property
    def lookups(self) -> Lookups:
        return Lookups(self)

    @property
    def view(self) -> View:
        return self.views.current

    def loaded(self) -> View:
        """The newest view, when all that fits is in memory."""
        self.views.renew(1_000_000)
        while not self.views.complete:
            self.views.renew(1_000_000)
        return self.view

    def publish(self, day: date, count: int, version: str, files: int = 1) -> str:
        """Make these rows all there is of a day, as the pipeline does; gives the day's key."""
        rows = loans_of(day, count, version)
        key = f"{version}{day:%m%d}"
        if self.with_vectors:
            self.publish_vectors(day, rows, key)
        self.publish_predictions(day, rows, key, files)
        return key

    def publish_vectors(self, day: date, rows: Sequence[dict[str, Any]], key: str) -> None:
        table = pa.Table.from_pylist(
            [{**row, "vector": [row["score"]] * SIZE, "scoring_key": key} for row in rows],
            schema=VECTORS.schema,
        )
        self.vectors.replace_day(VECTORS, day, table.to_batches())

    def publish_predictions(
        self, day: date, rows: Sequence[dict[str, Any]], key: str, files: int = 1
    ) -> None:
        schema = PREDICTIONS.file_schema
        with self.warehouse.staging() as folder:
            staged = []
            for n in range(files):
                path = folder / f"{n}.parquet"
                part = pa.Table.from_pylist(list(rows[n::files]), schema=schema)
                pq.write_table(part, path, row_group_size=max(1, part.num_rows // 3))
                staged.append(StagedFile(path, {"day": day}, key))
            self.warehouse.replace_days(self.warehouse.snapshot(PREDICTIONS), staged, [day])
        self.published[day] = list(rows)
