"""Similarity search among a million vectors: exact and by index, with filters and without."""

import statistics
import tempfile
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from batch_assets.storage.vectors import VectorStore, VectorTable
from benchmarks.harness import Result, Watch, Work, in_own_process, measure

ROWS_A_DAY, DAYS, SIZE, CLUSTERS = 100_000, 10, 64, 2_000
FIRST_DAY = date(2026, 1, 1)
QUERIES, K = 30, 10
TABLE = VectorTable(
    name="vectors",
    schema=pa.schema(
        [
            pa.field("key", pa.string()),
            pa.field("day", pa.date32()),
            pa.field("vector", pa.list_(pa.float32(), SIZE)),
            pa.field("customer_id", pa.string()),
            pa.field("scoring_key", pa.string()),
        ]
    ),
    key="key",
    btree=("customer_id",),
)
LAST_DAY = FIRST_DAY + timedelta(days=DAYS - 1)
CASES: dict[str, Mapping[str, Any]] = {
    "exact": {"exact": True},
    "index": {},
    "index, one day of ten": {"days": (LAST_DAY, LAST_DAY)},
}


def main() -> Result:
    """Measure single queries, one after another; a row is a query."""
    with tempfile.TemporaryDirectory(prefix="search-") as folder:
        uri = f"{folder}/vectors"
        in_own_process(fill, uri)
        found: Result = {
            name: measure(search_often, uri, dict(case)) for name, case in CASES.items()
        }
        found["lookup of 100 keys"] = measure(look_up_often, uri)
        return found


def fill(uri: str) -> None:
    """Ten days of vectors in clusters, and their indexes."""
    store = VectorStore(uri)
    for number in range(DAYS):
        store.replace_day(TABLE, FIRST_DAY + timedelta(days=number), _batches(number))
    store.optimise(TABLE)


def _batches(number: int) -> Iterator[pa.RecordBatch]:
    random = np.random.default_rng(number)
    for start in range(0, ROWS_A_DAY, 50_000):
        keys = [f"{number}-{i}" for i in range(start, start + 50_000)]
        vectors = _vectors(random, len(keys))
        yield pa.record_batch(
            {
                "key": keys,
                "day": [FIRST_DAY + timedelta(days=number)] * len(keys),
                "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), SIZE),
                "customer_id": [f"C{i % 5000}" for i in range(len(keys))],
                "scoring_key": ["one"] * len(keys),
            }
        )


def _vectors(random: np.random.Generator, count: int) -> np.ndarray[Any, Any]:
    """float32 [count, SIZE], around the same centres each time."""
    centres = np.random.default_rng(99).normal(size=(CLUSTERS, SIZE))
    around = centres[random.integers(CLUSTERS, size=count)]
    return (around + 0.5 * random.normal(size=(count, SIZE))).astype(np.float32)


def search_often(uri: str, case: dict[str, Any]) -> Work:
    """Queries near, but not at, stored vectors; recall against the exact result."""
    store = VectorStore(uri)
    queries = _vectors(np.random.default_rng(1234), QUERIES)
    store.search(TABLE, queries[0], k=K, **case)
    times, found = [], []
    for query in queries:
        watch = Watch()
        found.append(_nearest(store, query, case))
        times.append(watch.seconds)
    more = {"median_milliseconds": round(1000 * statistics.median(times), 2)}
    if not case.get("exact"):
        truth = [_nearest(store, query, {**case, "exact": True}) for query in queries]
        hits = sum(len(one & other) for one, other in zip(found, truth, strict=True))
        more["recall_at_10"] = round(hits / (K * QUERIES), 4)
    return Work(QUERIES, sum(times), more)


def _nearest(store: VectorStore, query: np.ndarray[Any, Any], case: dict[str, Any]) -> set[str]:
    return set(store.search(TABLE, query, k=K, columns=["key"], **case)["key"].to_pylist())


def look_up_often(uri: str) -> Work:
    """A hundred keys at once, several times."""
    store = VectorStore(uri)
    random = np.random.default_rng(5)
    keys = [f"{random.integers(DAYS)}-{random.integers(ROWS_A_DAY)}" for _ in range(100 * 20)]
    store.lookup(TABLE, keys[:1], columns=["key"])
    watch = Watch()
    for start in range(0, len(keys), 100):
        store.lookup(TABLE, keys[start : start + 100], columns=["key", "vector"])
    return Work(len(keys), watch.seconds)
