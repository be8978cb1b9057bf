"""Results of an earlier scoring are used again only if they are whole."""

from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from batch_assets.fraud.embeddings import EMBEDDING_SIZE, EMBEDDINGS, earlier_scores
from batch_assets.storage.vectors import VectorStore, VectorType

DAY = date(2026, 3, 1)


def stored(folder: Path, vector_type: VectorType) -> tuple[VectorStore, np.ndarray, np.ndarray]:
    """A store with a day, the hashes of its inputs as two numbers a row, and its vectors."""
    random = np.random.default_rng(3)
    vectors = random.random((20, EMBEDDING_SIZE), dtype=np.float32)
    hashes = random.integers(0, 2**63, (20, 2)).astype(np.uint64)
    rows = {
        "transaction_id": [f"t{n}" for n in range(20)],
        "day": [DAY] * 20,
        "vector": list(vectors),
        "score": np.linspace(0, 1, 20, dtype=np.float32),
        "model_version": ["m"] * 20,
        "scoring_key": ["key"] * 20,
        "input_hash": [one.tobytes() for one in hashes],
    }
    missing = [name for name in EMBEDDINGS.schema.names if name not in rows]
    table = pa.table({**rows, **{name: [None] * 20 for name in missing}})
    store = VectorStore(str(folder))
    store.ensure(EMBEDDINGS, vector_type)
    batch = table.select(EMBEDDINGS.schema.names).cast(EMBEDDINGS.schema)
    store.replace_day(EMBEDDINGS, DAY, batch.to_batches())
    return store, hashes, vectors


def test_whole_vectors_are_used_again_bit_for_bit(tmp_path: Path) -> None:
    store, hashes, vectors = stored(tmp_path, "float32")
    earlier = earlier_scores(store, DAY, "key", "m")
    assert earlier is not None
    found, scores, again = earlier.find(hashes[::-1])
    assert found.all()
    np.testing.assert_array_equal(scores, np.linspace(0, 1, 20, dtype=np.float32)[::-1])
    np.testing.assert_array_equal(again, vectors[::-1])


@pytest.mark.parametrize(
    ("vector_type", "key", "model"),
    [("float16", "key", "m"), ("float32", "other", "m"), ("float32", "key", "other")],
)
def test_rounded_or_other_results_are_not(
    tmp_path: Path, vector_type: VectorType, key: str, model: str
) -> None:
    store, _, _ = stored(tmp_path, vector_type)
    assert earlier_scores(store, DAY, key, model) is None
