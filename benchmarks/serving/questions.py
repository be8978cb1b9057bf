"""What is asked, and what the right answers are, from the tables themselves."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.serving.load import Ask

PREDICTIONS, SIMILAR, SCORE = "/v1/fraud/predictions", "/v1/fraud/similar", "/v1/fraud/score"
LOOKUPS, SEARCHES, SCORED, CHECKED = 100_000, 2_000, 12_000, 200
K = 10
NOISE = 0.002
"""Standard deviation of what is added to stored vectors to ask near them, not at them."""
TOLERANCE = 1e-5
"""By which the distance of a neighbour may be above that of the tenth and still be right."""
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Questions:
    """Asks over one home, the same each time."""

    home: Path

    def lookups(self) -> list[Ask]:
        """Transactions of all days."""
        return [Ask(f"{PREDICTIONS}/{id}") for id in self._ids(self._all, LOOKUPS)]

    def newest(self, rows: int) -> list[Ask]:
        """Transactions of the newest days, of as many as have about so many rows."""
        days = max(1, round(rows / self.rows_a_day))
        return [Ask(f"{PREDICTIONS}/{id}") for id in self._ids(self.folders[-days:], LOOKUPS)]

    def old(self, share: float) -> list[Ask]:
        """Transactions of the first days, each once."""
        first = self.folders[: round(share * len(self.folders))]
        return [Ask(f"{PREDICTIONS}/{id}") for id in self._ids(first, LOOKUPS)]

    def absent(self) -> list[Ask]:
        """Ids that look like the others, and that nobody has scored."""
        return [Ask(f"{one.path[:-2]}-{n}") for n, one in enumerate(self.lookups()[:20_000])]

    def searches(self) -> list[Ask]:
        """Neighbours of vectors near stored ones."""
        return [
            Ask(SIMILAR, json.dumps({"vector": [round(float(x), 6) for x in one], "k": K}))
            for one in self.vectors
        ]

    def to_score(self) -> list[Ask]:
        """Transactions of the day after the last: the newest day's, a day later, under new ids."""
        rows = self._newest_rows(SCORED)
        return [
            Ask(SCORE, msgspec.json.encode({"rows": [_request(n, row)]}).decode())
            for n, row in enumerate(rows)
        ]

    @cached_property
    def folders(self) -> list[Path]:
        """Of predictions, a day each, in order."""
        return sorted((self.home / "warehouse" / "fraud_predictions").glob("day=*"))

    @cached_property
    def rows(self) -> int:
        """In all."""
        return self._one("SELECT count(*) FROM read_parquet($files)", self._all)

    @property
    def rows_a_day(self) -> float:
        return self.rows / len(self.folders)

    @property
    def _all(self) -> list[Path]:
        return self.folders

    def row(self, id: str) -> dict[str, Any]:
        """A prediction as JSON would show it, but its moments naive."""
        found = self._sql(
            "SELECT * FROM read_parquet($files, hive_partitioning = true) "
            "WHERE transaction_id = $id",
            self._all,
            id=id,
        )
        return dict(found.to_pylist()[0])

    @cached_property
    def vectors(self) -> Vectors:
        """float32 [SEARCHES, dimensions]."""
        random = np.random.default_rng(11)
        table = self._dataset()
        at = np.sort(random.choice(table.count_rows(), SEARCHES, replace=False))
        found = _matrix(table.take(at, columns=["vector"])["vector"])
        found = random.permutation(found)
        found = found + NOISE * random.normal(size=found.shape).astype(np.float32)
        return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)

    def distances(self, most: int = CHECKED) -> npt.NDArray[np.float32]:
        """Of the first vectors, the exact squared distance of the K-th neighbour."""
        asked = np.array([[round(float(x), 6) for x in one] for one in self.vectors[:most]])
        asked = asked.astype(np.float32)
        best = np.full((len(asked), K), np.inf, np.float32)
        for batch in self._dataset().to_batches(columns=["vector"], batch_size=65_536):
            stored = _matrix(batch["vector"])
            squares = np.einsum("ij,ij->i", stored, stored)
            apart = squares[None] - 2 * (asked @ stored.T)
            nearest = np.partition(apart, K - 1, axis=1)[:, :K]
            best = np.partition(np.hstack([best, nearest]), K - 1, axis=1)[:, :K]
        return best.max(axis=1) + np.einsum("ij,ij->i", asked, asked)

    def _dataset(self) -> Any:
        import lance

        return lance.dataset(str(self.home / "vectors" / "transaction_embeddings.lance"))

    def _ids(self, folders: Sequence[Path], most: int) -> list[str]:
        found = self._sql("SELECT transaction_id FROM read_parquet($files)", folders)
        ids = found["transaction_id"].combine_chunks()
        at = np.random.default_rng(5).permutation(len(ids))[:most]
        return [str(one) for one in ids.take(pa.array(at)).to_pylist()]

    def _newest_rows(self, most: int) -> list[dict[str, Any]]:
        newest = sorted((self.home / "warehouse" / "clean_transactions").glob("day=*"))[-1:]
        statement = (
            "SELECT customer_id, terminal_id, original_amount, original_currency, feed, "
            "happened_at FROM read_parquet($files) ORDER BY hash(transaction_id) LIMIT $most"
        )
        return self._sql(statement, newest, most=most).to_pylist()

    def _one(self, statement: str, folders: Sequence[Path]) -> int:
        return int(self._sql(statement, folders).column(0)[0].as_py())

    def _sql(self, statement: str, folders: Sequence[Path], **parameters: Any) -> pa.Table:
        files = [f"{folder}/*.parquet" for folder in folders]
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = true")
            found = connection.sql(statement, params={"files": files, **parameters})
            return found.to_arrow_table()


def _request(number: int, row: dict[str, Any]) -> dict[str, Any]:
    moment = row["happened_at"] + timedelta(days=1)
    return {
        "transaction_id": f"N{number}",
        "customer_id": row["customer_id"],
        "terminal_id": row["terminal_id"],
        "amount": str(row["original_amount"]),
        "currency": row["original_currency"],
        "happened_at": f"{moment.isoformat(timespec='seconds')}Z",
        "feed": row["feed"],
    }


def _matrix(column: Any) -> Vectors:
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    size = array.type.list_size
    return array.flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(-1, size)
