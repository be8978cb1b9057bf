"""Fills Feast's online store: `python feast_load.py PREDICTIONS REPOSITORY REDIS ROWS`.

Redis is what Feast's documentation advises for low latency. Rows are those of the newest days;
Feast writes some thousands a second, and a look-up by key does not depend on how many there are.
"""

import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureStore, FeatureView, Field, FileSource
from feast.types import Float32, Float64, PrimitiveFeastType, String, UnixTimestamp
from feast.value_type import ValueType

CHUNK = 20_000
VIEW, KEY = "predictions", "transaction_id"
FEATURES: dict[str, PrimitiveFeastType] = {
    "customer_id": String,
    "terminal_id": String,
    "happened_at": UnixTimestamp,
    "amount": Float64,
    "score": Float32,
    "model_version": String,
    "scored_at": UnixTimestamp,
    "day": String,
}
CONFIG = """\
project: fraud
registry: registry.db
provider: local
online_store:
  type: redis
  connection_string: "{redis}"
offline_store:
  type: file
entity_key_serialization_version: 3
"""


def chunks(predictions: Path, rows: int) -> Iterator[pd.DataFrame]:
    """Rows of the newest days, in pieces."""
    left = rows
    for folder in sorted(predictions.glob("day=*"), reverse=True):
        found = pq.read_table(folder, partitioning=None)
        found = found.append_column("day", pa.array([folder.name[4:]] * found.num_rows))
        for start in range(0, found.num_rows, CHUNK):
            if left <= 0:
                return
            piece = found.slice(start, min(CHUNK, left))
            left -= piece.num_rows
            yield piece.to_pandas()


def main() -> None:
    """Declare the feature view and write its rows."""
    predictions, repository = Path(sys.argv[1]), Path(sys.argv[2])
    repository.mkdir(parents=True, exist_ok=True)
    (repository / "feature_store.yaml").write_text(CONFIG.format(redis=sys.argv[3]))
    store = FeatureStore(str(repository))
    transaction = Entity(name="transaction", join_keys=[KEY], value_type=ValueType.STRING)
    view = FeatureView(
        name=VIEW,
        entities=[transaction],
        ttl=timedelta(0),
        schema=[Field(name=name, dtype=kind) for name, kind in FEATURES.items()],
        source=FileSource(path=str(repository / "none.parquet"), timestamp_field="scored_at"),
    )
    store.apply([transaction, view])
    for piece in chunks(predictions, int(sys.argv[4])):
        store.write_to_online_store(VIEW, piece)


if __name__ == "__main__":
    main()
