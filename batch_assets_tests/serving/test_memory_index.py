"""Vectors in memory: what each format costs in recall, which rows masks let through."""

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_assets.errors import BatchAssetsError
from batch_assets.serving.memory_index import Codebook, Format, MemoryIndex, Segment, Vectors
from batch_assets.storage.vectors import VectorStore, VectorTable

DAYS, ROWS, SIZE = 5, 6_000, 64
FIRST = date(2026, 3, 1)
FORMATS: dict[Format, float] = {"fp32": 0.98, "fp16": 0.98, "sq8": 0.75, "pq": 0.65}


def embeddings(rows: int, seed: int = 0) -> Vectors:
    """As a network's last layer gives them: few directions that matter, no negatives, length 1."""
    weights = np.random.default_rng(99)
    first, second = weights.standard_normal((6, 96)), weights.standard_normal((96, SIZE))
    inputs = np.random.default_rng(seed).standard_normal((rows, 6))
    found = np.maximum(np.maximum(inputs @ first, 0) @ second, 0)
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return (found / np.where(lengths == 0, 1, lengths)).astype(np.float32)


def parts(vectors: Vectors) -> Iterator[tuple[np.ndarray, Vectors]]:
    """The rows in some other order, in pieces."""
    order = np.random.default_rng(1).permutation(len(vectors))
    for numbers in np.array_split(order, 3):
        yield numbers, vectors[numbers]


def segments(vectors: Vectors, codebook: Codebook, rows: int = ROWS) -> list[Segment]:
    """A segment for each so many rows; their numbers are not in the order of the days."""
    days = len(vectors) // rows
    firsts = [((at * 3) % days) * (rows + 800) for at in range(days)]
    return [
        Segment(
            codebook,
            FIRST + timedelta(days=n),
            f"v{n}",
            rows,
            firsts[n],
            parts(vectors[n * rows : (n + 1) * rows]),
        )
        for n in range(days)
    ]


def nearest(vectors: Vectors, query: Vectors) -> np.ndarray:
    return ((vectors.astype(np.float64) - query) ** 2).sum(axis=1)


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    return embeddings(DAYS * ROWS)


@pytest.fixture(scope="module", params=FORMATS)
def index(request: pytest.FixtureRequest, vectors: Vectors) -> MemoryIndex:
    book = Codebook.train(vectors[::3], len(vectors), request.param, "l2")
    return MemoryIndex(segments(vectors, book))


def positions(index: MemoryIndex, found: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows of the matrix that all segments were made of."""
    days = [(one.day - FIRST).days for one in index.segments]
    return np.array(days)[found] * ROWS + rows


def test_recall_of_each_format(index: MemoryIndex, vectors: Vectors) -> None:
    hits = 0
    for query in vectors[:: len(vectors) // 100][:100]:
        found = index.search(query, 10)
        far = nearest(vectors, query)
        limit = np.sort(far)[9] * (1 + 1e-6)
        hits += int((far[positions(index, found.segments, found.rows)] <= limit).sum())
        assert not found.exact
        assert (np.diff(found.distances) >= 0).all()
    assert hits / 1000 >= FORMATS[index.codebook.format]


def test_decoded_vectors_are_near_those_given(index: MemoryIndex, vectors: Vectors) -> None:
    off = {"fp32": 0.0, "fp16": 2e-4, "sq8": 0.02, "pq": 0.5}[index.codebook.format]
    for one in index.segments:
        n = (one.day - FIRST).days
        rows = np.array([ROWS - 1, 0, 7, 7])
        np.testing.assert_allclose(one.vectors(rows), vectors[n * ROWS + rows], atol=off)


@given(seed=st.integers(0, 1_000), k=st.integers(1, 30), share=st.sampled_from([0, 1e-3, 0.05, 1]))
def test_masks_let_through_what_they_say(
    index: MemoryIndex, vectors: Vectors, seed: int, k: int, share: float
) -> None:
    random = np.random.default_rng(seed)
    masks = [random.random(ROWS) < share for _ in index.segments]
    query = embeddings(1, seed + 1)[0]
    found = index.search(query, k, masks)
    places = positions(index, found.segments, found.rows)
    allowed = np.zeros(len(vectors), np.bool_)
    for mask, one in zip(masks, index.segments, strict=True):
        allowed[(one.day - FIRST).days * ROWS :][:ROWS] = mask
    assert len(set(places.tolist())) == len(places) == min(k, int(allowed.sum()))
    assert allowed[places].all()
    if index.codebook.format == "fp32" and allowed.sum() <= 20_000:
        far = np.where(allowed, nearest(vectors, query), np.inf)
        assert set(places.tolist()) == set(np.argsort(far, kind="stable")[: len(places)].tolist())
        assert found.exact


def test_whole_searches_miss_nothing(vectors: Vectors) -> None:
    book = Codebook.train(vectors[::3], len(vectors), "fp32", "l2")
    index = MemoryIndex(segments(vectors, book))
    for query in embeddings(20, 5):
        found = index.search(query, 15, whole=True)
        assert found.exact
        far = nearest(vectors, query)
        wanted = np.argsort(far, kind="stable")[:15]
        assert positions(index, found.segments, found.rows).tolist() == wanted.tolist()
        np.testing.assert_allclose(found.distances, far[wanted], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("rows", [1, 2, 40])
def test_few_rows_are_enough(format: Format, rows: int) -> None:
    vectors = embeddings(rows)
    index = MemoryIndex(segments(vectors, Codebook.train(vectors, rows, format, "l2"), rows))
    found = index.search(vectors[0], 50)
    assert sorted(found.rows.tolist()) == list(range(rows))


def test_rows_must_have_one_vector_each(vectors: Vectors) -> None:
    book = Codebook.train(vectors[:500], 500, "fp16", "l2")
    twice = [(np.array([0, 1, 1]), vectors[:3])]
    with pytest.raises(BatchAssetsError, match="each of the 3 rows"):
        Segment(book, FIRST, "v", 3, 0, twice)
    with pytest.raises(BatchAssetsError, match="each of the 3 rows"):
        Segment(book, FIRST, "v", 3, 0, [(np.array([0, 1]), vectors[:2])])


@pytest.mark.parametrize("metric", ["l2", "cosine", "dot"])
def test_distances_are_those_of_the_store(tmp_path: Path, metric: str) -> None:
    vectors = embeddings(400) * np.random.default_rng(2).uniform(0.5, 2, (400, 1)).astype("f4")
    spec = VectorTable(
        name="rows",
        schema=pa.schema(
            [
                pa.field("row", pa.int64()),
                pa.field("day", pa.date32()),
                pa.field("vector", pa.list_(pa.float32(), SIZE)),
                pa.field("scoring_key", pa.string()),
            ]
        ),
        key="row",
        metric=metric,
    )
    store = VectorStore(str(tmp_path))
    columns = [range(400), [FIRST] * 400, list(vectors), ["v"] * 400]
    table = pa.table(dict(zip(spec.schema.names, columns, strict=True)), schema=spec.schema)
    store.replace_day(spec, FIRST, table.to_batches())
    book = Codebook.train(vectors, 400, "fp32", metric)
    index = MemoryIndex(segments(vectors, book, 400))
    mask = np.arange(400) % 2 == 0
    for query in embeddings(5, 8):
        stored = store.search(spec, query, k=400, exact=True)
        far = dict(zip(stored["row"].to_pylist(), stored["_distance"].to_pylist(), strict=True))
        for found in (index.search(query, 400), index.search(query, 400, [mask])):
            wanted = [far[row] for row in found.rows.tolist()]
            np.testing.assert_allclose(found.distances, wanted, atol=1e-5)
            assert len(found.rows) in (400, 200)
