"""Fills the LanceDB table: `python lancedb_load.py PREDICTIONS VECTORS FOLDER`.

Rows come from our own tables; a BTREE index on the key, IVF_FLAT on the vectors with as many lists
as the root of the rows has, then everything is compacted, as LanceDB's documentation advises.
"""

import math
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from itertools import chain
from pathlib import Path

import lancedb
import pyarrow as pa
import pyarrow.parquet as pq
from lancedb.index import BTree, IvfFlat

from benchmarks.serving.peers.lancedb_app import COLUMNS, TABLE


def batches(predictions: Path, vectors: str) -> Iterator[pa.RecordBatch]:
    """Rows of all days, each with its vector."""
    import lance

    table = lance.dataset(vectors)
    for folder in sorted(predictions.glob("day=*")):
        day = date.fromisoformat(folder.name[4:])
        rows = pq.read_table(folder, partitioning=None)
        rows = rows.append_column("day", pa.array([day] * rows.num_rows, pa.date32()))
        rows = rows.select(COLUMNS).sort_by("transaction_id")
        held = table.to_table(["transaction_id", "vector"], filter=f"day = date '{day}'")
        held = held.sort_by("transaction_id")
        assert held["transaction_id"].equals(rows["transaction_id"]), folder.name
        yield from rows.append_column("vector", held["vector"]).combine_chunks().to_batches()


def main() -> None:
    """Fill and index."""
    predictions, vectors, folder = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    connection = lancedb.connect(folder)
    found = batches(predictions, vectors)
    first = next(found)
    rest = pa.RecordBatchReader.from_batches(first.schema, chain([first], found))
    table = connection.create_table(TABLE, rest)
    rows = table.count_rows()
    table.create_index("transaction_id", config=BTree())
    lists = math.isqrt(rows)
    table.create_index("vector", config=IvfFlat(distance_type="l2", num_partitions=lists))
    table.optimize(cleanup_older_than=timedelta(0))
    print(table.list_indices())


if __name__ == "__main__":
    main()
