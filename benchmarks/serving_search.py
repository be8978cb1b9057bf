"""Similarity search of the server: formats of vectors in memory and on disk, on real embeddings."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa

from batch_assets.serving.memory_index import Codebook, Format, MemoryIndex, Segment, sample_rows
from batch_assets.storage.memory import release_memory
from batch_assets.storage.vectors import VectorIndex, VectorStore, VectorTable, VectorType
from benchmarks.harness import Result, Watch, data_home, in_own_process

HOME = "BATCH_ASSETS_BENCH_HOME"
"""A data home with scored days, instead of one that is simulated and scored first."""
DAYS, CUSTOMERS, TERMINALS = 60, 12_000, 20_000
ROWS, SIZE, QUERIES, K = 1_000_000, 64, 300, 10
FEWER_ROWS = 100_000
"""For the graph index and the formats on disk, which take long to build."""
FIRST = date(2026, 1, 1)
NOTES = """\
Rows are the newest embeddings of a home of simulated transactions, queries the vectors of rows,
which are then not counted. A neighbour counts as found if it is no farther than the tenth of all,
computed in float64. Milliseconds are of one query at a time in one thread: the median and the 99th
percentile by the clock, and the mean of the processor's time, which other programs on the machine
do not change. Bytes a row are those of the process, or of the files; for the store, of the column
of vectors and of the index over it. Replacing a day is encoding its rows and stacking all days
anew."""


def main() -> Result:
    """Measure the formats in memory, a graph index beside them, and the formats on disk."""
    with tempfile.TemporaryDirectory(prefix="serving-search-") as folder:
        given = os.environ.get(HOME)
        home = Path(given) if given else Path(folder) / "home"
        if not given:
            in_own_process(_score, home)
        vectors = str(Path(folder) / "vectors.npz")
        in_own_process(_export, home, vectors)
        memory: Result = {name: in_own_process(_memory, vectors, name) for name in get_args(Format)}
        memory[f"usearch fp16, {FEWER_ROWS:,} rows"] = in_own_process(_graph, vectors)
        stored: Result = {
            f"{kind}, {index}": in_own_process(_stored, vectors, folder, kind, index)
            for kind in get_args(VectorType)
            for index in get_args(VectorIndex)
        }
        return {"memory": memory, "store": stored}


def markdown(results: Result) -> str:
    """Two tables."""
    lines = [f"## In memory, {ROWS:,} rows", ""]
    lines += _table(results["memory"], ("train_seconds", "build_seconds", "day_milliseconds"))
    lines += ["", f"## On disk, {FEWER_ROWS:,} rows", ""]
    lines += _table(results["store"], ("index_bytes_a_row", "build_seconds"))
    return "\n".join([*lines, "", NOTES])


def _table(cases: Result, more: tuple[str, ...]) -> list[str]:
    names = ["bytes_a_row", *more, "recall_at_10", "p50_ms", "p99_ms", "processor_ms"]
    head = "| format | " + " | ".join(name.replace("_", " ") for name in names) + " |"
    rows = [
        f"| {case} | " + " | ".join(str(found.get(name, "")) for name in names) + " |"
        for case, found in cases.items()
    ]
    return [head, "|---|" + "---:|" * len(names), *rows]


def _score(home: Path) -> None:
    """Simulate, train and score."""
    from batch_assets.fraud.run import open_pipeline, run_days
    from batch_assets.instance import dagster_instance
    from batch_assets.simulate import simulate

    home.mkdir()
    with data_home(home), dagster_instance() as instance:
        done = simulate(home, days=DAYS, customers=CUSTOMERS, terminals=TERMINALS)
        run_days(instance, open_pipeline(), done.first_day, done.last_day)


def _export(home: Path, target: str) -> None:
    """The newest rows' vectors, in the order of their days; queries, and how far their tenth is."""
    from batch_assets.fraud.embeddings import EMBEDDINGS

    table = (
        VectorStore(str(home / "vectors")).snapshot(EMBEDDINGS).dataset.to_table(["vector", "day"])
    )
    days = table["day"].combine_chunks().cast(pa.int32()).to_numpy()
    order = np.argsort(days, kind="stable")[-ROWS:]
    flat = table["vector"].combine_chunks().flatten().to_numpy()
    vectors = flat.reshape(-1, SIZE)[order]
    chosen = np.random.default_rng(0).choice(len(vectors), QUERIES, replace=False)
    np.savez(target, vectors=vectors, days=days[order], queries=vectors[chosen])


class Case:
    """What is searched, and the truth about it."""

    def __init__(self, path: str, rows: int = ROWS) -> None:
        with np.load(path) as file:
            self.vectors, self.days = file["vectors"][-rows:], file["days"][-rows:]
        self.queries = self.vectors[:: len(self.vectors) // QUERIES][:QUERIES]
        self._norms = np.einsum("ij,ij->i", self.vectors, self.vectors)

    def measure(self, search: Callable[[np.ndarray], np.ndarray]) -> Result:
        """Search with each query; ``search`` gives the places of K + 1 rows."""
        for query in self.queries[:20]:
            search(query)
        times, found, processor = [], [], time.process_time()
        for query in self.queries:
            watch = Watch()
            found.append(search(query))
            times.append(1000 * watch.seconds)
        processor = 1000 * (time.process_time() - processor) / len(self.queries)
        hits = sum(map(self._hits, self.queries, found))
        return {
            "recall_at_10": round(hits / (K * len(self.queries)), 4),
            "p50_ms": round(float(np.median(times)), 3),
            "p99_ms": round(float(np.quantile(times, 0.99)), 3),
            "processor_ms": round(processor, 3),
        }

    def _hits(self, query: np.ndarray, places: np.ndarray) -> int:
        rough = self._norms - 2 * (self.vectors @ query)
        near = np.argpartition(rough, 100)[:100]
        limit = np.sort(_far(self.vectors[near], query))[K] * (1 + 1e-9)
        own = np.sort(_far(self.vectors[places], query))[1 : K + 1]
        return int((own <= limit).sum())


def _far(vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    return ((vectors.astype(np.float64) - query) ** 2).sum(axis=1)


def _memory(path: str, format: Format) -> Result:
    case = Case(path)
    before, watch = _resident(), Watch()
    picked = np.random.default_rng(0).permutation(len(case.vectors))[: sample_rows(ROWS)]
    book = Codebook.train(case.vectors[np.sort(picked)], ROWS, format, "l2")
    trained, watch = watch.seconds, Watch()
    starts = [*np.flatnonzero(np.diff(case.days, prepend=-1)), len(case.days)]
    pieces = [(int(low), int(high)) for low, high in pairwise(starts)]

    def segment(n: int) -> Segment:
        low, high = pieces[n]
        rows = np.arange(high - low), case.vectors[low:high]
        first = low + 8 * n - (low % 8)
        return Segment(book, FIRST + timedelta(days=n), "v", high - low, first, [rows])

    segments = [segment(n) for n in range(len(pieces))]
    index = MemoryIndex(segments)
    built = watch.seconds
    used = _resident() - before
    watch = Watch()
    segments[-1] = segment(len(pieces) - 1)
    index = MemoryIndex(segments)
    replaced = watch.seconds
    lows = np.array([pieces[segments.index(one)][0] for one in index.segments])

    def search(query: np.ndarray) -> np.ndarray:
        found = index.search(query, K + 1)
        return lows[found.segments] + found.rows

    return {
        "bytes_a_row": round(used / ROWS),
        "counted_bytes_a_row": round(sum(one.bytes for one in segments) / ROWS),
        "train_seconds": round(trained, 1),
        "build_seconds": round(built, 1),
        "day_milliseconds": round(1000 * replaced),
        "days": len(pieces),
        "lists": book.lists,
        **case.measure(search),
    }


def _graph(path: str) -> Result:
    from usearch.index import Index

    case = Case(path, FEWER_ROWS)
    before, watch = _resident(), Watch()
    index = Index(ndim=SIZE, metric="l2sq", dtype="f16")
    index.add(np.arange(len(case.vectors)), case.vectors, threads=1)
    return {
        "build_seconds": round(watch.seconds, 1),
        "bytes_a_row": round((_resident() - before) / FEWER_ROWS),
        **case.measure(lambda q: index.search(q, K + 1, threads=1).keys.astype(np.int64)),
    }


def _stored(path: str, folder: str, kind: VectorType, index: VectorIndex) -> Result:
    case = Case(path, FEWER_ROWS)
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
    )
    at = f"{folder}/{kind}-{index}"
    store = VectorStore(at)
    store.ensure(spec, kind)
    store.replace_day(spec, FIRST, _batches(case, spec))
    files, watch = _size(at), Watch()
    store.optimise(spec, vector_index=index)
    built = watch.seconds
    described = store.snapshot(spec).dataset.describe_indices()
    size = next(one.total_size_bytes for one in described if one.name == "vector_idx")

    def search(query: np.ndarray) -> np.ndarray:
        return store.search(spec, query, k=K + 1, columns=["row"])["row"].to_numpy()

    return {
        "bytes_a_row": round(files / FEWER_ROWS),
        "index_bytes_a_row": round(size / FEWER_ROWS),
        "build_seconds": round(built, 1),
        **case.measure(search),
    }


def _batches(case: Case, spec: VectorTable) -> Iterator[pa.RecordBatch]:
    for start in range(0, FEWER_ROWS, 50_000):
        part = case.vectors[start : start + 50_000]
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(part.reshape(-1)), SIZE)
        rows = np.arange(start, start + len(part))
        columns: list[Any] = [rows, [FIRST] * len(part), vectors, ["v"] * len(part)]
        yield pa.record_batch(dict(zip(spec.schema.names, columns, strict=True)))


def _size(folder: str) -> int:
    return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())


def _resident() -> int:
    """Resident bytes of this process now, without what the allocator holds back."""
    release_memory()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
