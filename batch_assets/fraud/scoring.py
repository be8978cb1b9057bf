"""One pass of the model over a day's features: scores to Delta, embeddings to LanceDB.

Vectors are published first, then the Delta commit, which is the decision. Both
carry the day's key, so a reader that drops vectors with another key never
sees vectors of one pass beside scores of another.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from batch_assets.fraud import tables
from batch_assets.fraud.keys import PREDICTIONS, State
from batch_assets.storage.tables import Table
from batch_assets.storage.vectors import VectorStore, VectorTable
from batch_assets.storage.warehouse import StagedFile

if TYPE_CHECKING:
    import duckdb

    from batch_assets.inference.scoring import Scorer

    Produce = Callable[
        [duckdb.DuckDBPyConnection, State, Sequence[date], Path], dict[Table, list[StagedFile]]
    ]

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
        ]
    ),
    key="transaction_id",
    btree=("customer_id",),
)
PASSED_THROUGH = ("transaction_id", "customer_id", "terminal_id", "happened_at", "amount")


def produce_predictions(scorer: "Callable[[], Scorer]", vectors: VectorStore) -> "Produce":
    """Stages scores of some days and publishes their vectors.

    Args:
        scorer: loads the live model, or gives the one loaded before.
    """

    def produce(
        connection: "duckdb.DuckDBPyConnection", state: State, days: Sequence[date], folder: Path
    ) -> dict[Table, list[StagedFile]]:
        staged = [_score_day(scorer(), vectors, state, day, folder) for day in days]
        return {tables.FRAUD_PREDICTIONS: staged}

    return produce


def _score_day(
    scorer: "Scorer", vectors: VectorStore, state: State, day: date, folder: Path
) -> StagedFile:
    key = state.key(PREDICTIONS, day)
    path = folder / f"scores-{day}.parquet"
    schema = tables.FRAUD_PREDICTIONS.file_schema
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:

        def vector_batches() -> Iterator[pa.RecordBatch]:
            for batch in scorer.score(_features(state, day), PASSED_THROUGH):
                constants = {
                    "model_version": state.model_version,
                    "scored_at": datetime.now(UTC).replace(tzinfo=None),
                    "day": day,
                    "scoring_key": key,
                }
                writer.write_batch(_with_constants(batch, constants, schema))
                yield _with_constants(batch, constants, EMBEDDINGS.schema)

        vectors.replace_day(EMBEDDINGS, day, vector_batches())
    return StagedFile(path, {"day": day}, key)


def _features(state: State, day: date) -> Iterator[pa.RecordBatch]:
    snapshot = state.snapshot(tables.TRANSACTION_FEATURES)
    for file in sorted(snapshot.by_day.get(day, []), key=lambda f: f.path):
        with pq.ParquetFile(f"{snapshot.root}/{file.path}") as parquet:
            yield from parquet.iter_batches(batch_size=65_536)


def _with_constants(
    batch: pa.RecordBatch, constants: Mapping[str, object], schema: pa.Schema
) -> pa.RecordBatch:
    columns = [
        batch[field.name]
        if field.name in batch.schema.names
        else pa.repeat(pa.scalar(constants[field.name], field.type), batch.num_rows)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
