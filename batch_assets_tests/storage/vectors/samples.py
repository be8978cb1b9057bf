"""A small vector table of documents, and rows for it that NumPy can rank."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import numpy as np
import pyarrow as pa

from batch_assets.storage.vectors import VectorTable

FIRST_DAY = date(2026, 3, 1)
SIZE = 8
DOCUMENTS = VectorTable(
    name="documents",
    schema=pa.schema(
        [
            pa.field("document_id", pa.string()),
            pa.field("day", pa.date32()),
            pa.field("vector", pa.list_(pa.float32(), SIZE)),
            pa.field("author", pa.string()),
            pa.field("written_at", pa.timestamp("us")),
            pa.field("price", pa.decimal128(18, 2)),
            pa.field("score", pa.float32()),
            pa.field("pages", pa.int32()),
            pa.field("printed", pa.bool_()),
            pa.field("scoring_key", pa.string()),
        ]
    ),
    key="document_id",
    btree=("author",),
)


def day(number: int) -> date:
    """The day so many days after the first."""
    return FIRST_DAY + timedelta(days=number)


def rows(
    of: date, count: int, *, version: str = "v1", seed: int = 0, keys: list[str] | None = None
) -> pa.RecordBatch:
    """So many rows of a day; the same seed gives the same vectors."""
    drawn = np.random.default_rng([seed, of.toordinal()])
    vectors = drawn.standard_normal((count, SIZE), dtype=np.float32)
    midnight = datetime(of.year, of.month, of.day, tzinfo=UTC).replace(tzinfo=None)
    cents = drawn.integers(1, 100_000, count).tolist()
    return pa.RecordBatch.from_arrays(
        [
            pa.array(keys or [f"{of}/{version}/{at}" for at in range(count)], pa.string()),
            pa.array([of] * count, pa.date32()),
            pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), SIZE),
            pa.array([f"O'Brien {at % 7}" for at in range(count)], pa.string()),
            pa.array([midnight + timedelta(seconds=at) for at in range(count)], pa.timestamp("us")),
            pa.array([Decimal(cent).scaleb(-2) for cent in cents], pa.decimal128(18, 2)),
            pa.array(drawn.random(count, dtype=np.float32)),
            pa.array(drawn.integers(1, 900, count), pa.int32()),
            pa.array((drawn.random(count) < 0.5).tolist(), pa.bool_()),
            pa.array([version] * count, pa.string()),
        ],
        schema=DOCUMENTS.schema,
    )


def in_batches(batch: pa.RecordBatch, size: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of at most this size."""
    for start in range(0, batch.num_rows, size):
        yield batch.slice(start, size)


def matrix(batch: pa.RecordBatch | pa.Table) -> np.ndarray:
    """The vectors as float32 (rows, SIZE)."""
    column = batch["vector"]
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return column.flatten().to_numpy(zero_copy_only=False).reshape(-1, SIZE)
