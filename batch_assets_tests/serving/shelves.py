"""The library with a vector of its own for each loan, and the truth about neighbours."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from batch_assets.serving.neighbours import Neighbours
from batch_assets.serving.view import View
from batch_assets_tests.serving.library import SIZE, VECTORS, Library, loans_of

Row = dict[str, Any]


@dataclass(frozen=True)
class VectorSettings:
    """The one setting that a search reads."""

    serving_vectors: Literal["fp32", "fp16", "sq8", "pq"] = "fp32"


@dataclass
class Shelves(Library):
    """Loans whose vectors have length 1 and differ."""

    settings: VectorSettings = field(default_factory=VectorSettings)
    realtime: Any = None
    scorings: int = 0
    stored: dict[str, np.ndarray] = field(default_factory=dict)

    def publish(self, day: date, count: int, version: str, files: int = 1) -> str:
        """As the library's, under a new key each time."""
        rows, self.scorings = loans_of(day, count, version), self.scorings + 1
        key = f"{version}{day:%m%d}.{self.scorings}"
        self.publish_vectors(day, rows, key)
        self.publish_predictions(day, rows, key, files)
        return key

    def publish_vectors(self, day: date, rows: Sequence[Row], key: str) -> None:
        drawn = np.random.default_rng([*key.encode()]).standard_normal((len(rows), SIZE))
        vectors = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
        stored = [
            {**row, "vector": vector, "scoring_key": key}
            for row, vector in zip(rows, vectors, strict=True)
        ]
        # The store keeps another order than the predictions.
        table = pa.Table.from_pylist(stored[::-1], schema=VECTORS.schema)
        self.vectors.replace_day(VECTORS, day, table.to_batches())
        self.stored |= {row["loan"]: row["vector"] for row in stored}

    def searched(self, view: View) -> Neighbours:
        """What searches, with all in memory that fits."""
        made = Neighbours(self, background=False)
        made.follow(view)
        return made

    def nearest(
        self,
        query: np.ndarray,
        k: int,
        among: Callable[[Row], bool] = lambda row: True,
    ) -> list[str]:
        """Keys of the nearest loans, by comparing all."""
        rows = [row for rows in self.published.values() for row in rows if among(row)]
        far = {row["loan"]: float(((self.stored[row["loan"]] - query) ** 2).sum()) for row in rows}
        return sorted(far, key=lambda loan: (far[loan], loan))[:k]
