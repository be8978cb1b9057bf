"""The table of embeddings, and the earlier results of a day."""

from datetime import date

import numpy as np
import pyarrow as pa

from batch_assets.storage.vectors import VectorStore, VectorTable
from batch_assets.storage.vectors.day_rows import DayRows

EMBEDDING_SIZE = 64
EMBEDDINGS = VectorTable(
    name="transaction_embeddings",
    schema=pa.schema(
        [
            pa.field("transaction_id", pa.string()),
            pa.field("day", pa.date32()),
            pa.field("vector", pa.list_(pa.float32(), EMBEDDING_SIZE)),
            pa.field("customer_id", pa.string()),
            pa.field("terminal_id", pa.string()),
            pa.field("happened_at", pa.timestamp("us")),
            pa.field("amount", pa.float64()),
            pa.field("score", pa.float32()),
            pa.field("model_version", pa.string()),
            pa.field("scoring_key", pa.string()),
            pa.field("input_hash", pa.binary(16)),
        ]
    ),
    key="transaction_id",
    btree=("customer_id",),
)
PASSED_THROUGH = ("transaction_id", "customer_id", "terminal_id", "happened_at", "amount")

NEIGHBOUR_COLUMNS = (
    "transaction_id",
    "day",
    "customer_id",
    "terminal_id",
    "happened_at",
    "amount",
    "score",
)
"""What is shown of transactions that a search finds, before their distance."""


def with_distance(found: pa.Table) -> pa.Table:
    """What a search found, its distances under the name that people read."""
    return found.rename_columns(
        ["distance" if name == "_distance" else name for name in found.column_names]
    )


class EarlierScores:
    """What the day's last scoring found for the same inputs; 32 bytes a row in memory.

    Results are those of the same model, computed in the same way: both are part of the hash.
    """

    def __init__(self, rows: DayRows) -> None:
        self._rows = rows
        hashes = rows.column("input_hash").combine_chunks()
        start = 16 * hashes.offset
        buffer = hashes.buffers()[1].slice(start, 16 * len(hashes))
        keys = np.frombuffer(buffer, dtype=np.uint64).reshape(-1, 2)
        self._order = np.argsort(keys[:, 0], kind="stable")
        self._keys = keys[self._order]

    def find(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See :class:`batch_assets.inference.known.Known`."""
        at = np.searchsorted(self._keys[:, 0], keys[:, 0])
        at[at == len(self._keys)] = 0
        found = (self._keys[at] == keys).all(axis=1)
        taken = self._rows.take(self._order[at[found]], ["score", "vector"])
        vectors = taken["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        scores = taken["score"].to_numpy()
        return found, scores, vectors.reshape(-1, EMBEDDING_SIZE)

    def keep(self, keys: np.ndarray, scores: np.ndarray, vectors: np.ndarray) -> None:
        """Nothing: the day is written anew as a whole."""


def earlier_scores(
    vectors: VectorStore, day: date, key: str | None, model_version: str
) -> EarlierScores | None:
    """Results of the day's scoring under ``key``, if it was by this model; None if not.

    Only whole vectors are results: those stored as float16 are rounded, and computed again.
    """
    rows = vectors.day_rows(EMBEDDINGS, day, key) if key else None
    if rows is None or rows.first("model_version") != model_version:
        return None
    if rows.kind(EMBEDDINGS.vector) != EMBEDDINGS.schema.field(EMBEDDINGS.vector).type:
        return None
    return EarlierScores(rows)
