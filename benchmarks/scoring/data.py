"""The rows to score, and whether an engine's output is right."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.lib.format import open_memmap

FILES = 8
ROW_GROUP = 131_072
SAMPLE_ROWS = 8_192
# Sums of floats in another order differ by less.
TOLERANCE = 1e-5


def prepare(folder: Path, rows: int, threads: int) -> None:
    """The input (also with features as lists), a sample for each thread, model, right results.

    The right results are what the network gives for all rows of a file at once, without any
    engine.
    """
    import torch

    from benchmarks.scoring.network import VECTOR_SIZE, load_network, save_network

    save_network(folder / "network.pt")
    network = load_network(folder / "network.pt")
    scores = open_memmap(folder / "scores.npy", "w+", np.float32, (rows,))
    vectors = open_memmap(folder / "vectors.npy", "w+", np.float32, (rows, VECTOR_SIZE))
    for name in ("source", "sample", "lists"):
        (folder / name).mkdir()
    edges = np.linspace(0, rows, FILES + 1).astype(int)
    for number, (start, stop) in enumerate(itertools.pairwise(edges)):
        features = np.random.default_rng(number).standard_normal((stop - start, 64), np.float32)
        _write(folder / "source" / f"part-{number}.parquet", start, features)
        _write(folder / "lists" / f"part-{number}.parquet", start, features, as_list=True)
        with torch.inference_mode():
            found = network(torch.from_numpy(features))
        scores[start:stop], vectors[start:stop] = found[0].numpy(), found[1].numpy()
    for number in range(threads):
        features = np.random.default_rng(number).standard_normal((SAMPLE_ROWS, 64), np.float32)
        _write(folder / "sample" / f"part-{number}.parquet", 0, features)


def _write(path: Path, first_id: int, features: np.ndarray, as_list: bool = False) -> None:
    """Ids and features, a column each or all as a list; zstd at level 1.

    Random floats have no use for dictionaries.
    """
    from benchmarks.scoring.network import FEATURES, ID, LISTS, vector_array

    if as_list:
        columns: dict[str, Any] = {LISTS: vector_array(features)}
    else:
        columns = {name: features[:, position] for position, name in enumerate(FEATURES)}
    pq.write_table(
        pa.table({ID: np.arange(first_id, first_id + len(features)), **columns}),
        path,
        compression="zstd",
        compression_level=1,
        use_dictionary=False,
        row_group_size=ROW_GROUP,
    )


def _written(target: Path) -> Iterator[pa.RecordBatch]:
    for path in sorted(target.glob("**/*.parquet")):
        yield from pq.ParquetFile(path).iter_batches(columns=["id", "score", "vector"])
    for path in target.glob("*.arrow"):
        with pa.ipc.open_file(pa.memory_map(str(path))) as file:
            yield from (file.get_batch(number) for number in range(file.num_record_batches))
    for path in target.glob("*.lance"):
        import lance

        yield from lance.dataset(str(path)).to_batches()


def check(folder: Path, target: Path) -> str:
    """What is wrong with the files that an engine wrote; nothing if all is right."""
    scores = np.load(folder / "scores.npy", mmap_mode="r")
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    seen = np.zeros(len(scores), np.int64)
    worst = 0.0
    for batch in _written(target):
        ids = batch.column("id").to_numpy()
        if len(ids) and (ids.min() < 0 or ids.max() >= len(scores)):
            return "there are ids that are not in the input"
        np.add.at(seen, ids, 1)
        for name, right in (("score", scores[ids]), ("vector", vectors[ids])):
            column = batch.column(name)
            values = column.flatten() if name == "vector" else column
            off = np.abs(values.to_numpy().reshape(right.shape) - right)
            # Unlike max(), this does not lose what is not a number.
            worst = float(np.fmax(worst, off.max(initial=0))) if np.isfinite(off).all() else np.inf
    if not (seen == 1).all():
        return f"{(seen == 0).sum():,} rows are missing, {(seen > 1).sum():,} are there twice"
    return "" if worst <= TOLERANCE else f"results differ by up to {worst:.1e}"
