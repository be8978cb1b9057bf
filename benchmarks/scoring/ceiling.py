"""How fast each stage alone can be on these cores, done in the fastest of several ways.

The network's matrix products alone (no bias, no activation, no allocation), the input file to a
float32 matrix, and results to the same kind of Parquet file as the engines write. The network as
torch runs it is measured too, to tell the model's own cost from the engine's. Every core does the
same at the same time, so that they share caches and memory as they do in the real run.
"""

import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.scoring.job import Job
from benchmarks.scoring.network import (
    FEATURES,
    ID,
    LAYERS,
    RESULTS,
    VECTOR_SIZE,
    load_network,
    vector_array,
)

SECONDS = 1.0
# One piece of a stage's work on a thread, whose number is given; gives the rows done.
Piece = Callable[[int], int]
ENCODED_ROWS = 65_536


def rates(job: Job) -> dict[str, dict[str, float]]:
    """Rows a CPU-second of each way of each stage."""
    stages = {
        "decode": _decoders(job),
        "products": _products(job),
        "network": _networks(job),
        "encode": _encoders(job),
    }
    found = {
        stage: {name: rows_a_cpu_second(piece, job.threads) for name, piece in ways.items()}
        for stage, ways in stages.items()
    }
    found["products"] |= _products_with_all_cores(job)
    return found


def rows_a_cpu_second(piece: Piece, threads: int, seconds: float = SECONDS) -> float:
    """Rows a CPU-second when so many threads do the same at once."""

    def work(thread: int) -> int:
        torch.set_num_threads(1)
        rows = 0
        while time.perf_counter() < end:
            rows += piece(thread)
        return rows

    with ThreadPoolExecutor(threads) as pool:
        end = time.perf_counter()
        list(pool.map(piece, range(threads)))  # warm
        end = time.perf_counter() + seconds
        spent = time.process_time()
        rows = sum(pool.map(work, range(threads)))
        return rows / (time.process_time() - spent)


def _decoders(job: Job) -> dict[str, Piece]:
    """A file's row groups in turn, the id and a matrix: columns after another, or rows."""
    files = job.files()
    turns = dict.fromkeys(range(job.threads), 0)

    def decoder(by_rows: bool, mapped: bool) -> Piece:
        def decode(thread: int) -> int:
            turns[thread] += 1
            path = files[(turns[thread] * job.threads + thread) % len(files)]
            file = pq.ParquetFile(path, memory_map=mapped)
            rows = 0
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=[ID, *FEATURES], use_threads=False)
                columns = np.empty((len(FEATURES), len(table)), np.float32)
                for position, name in enumerate(FEATURES):
                    columns[position] = table.column(name).chunk(0).to_numpy()
                if by_rows:
                    torch.from_numpy(columns).t().contiguous()
                rows += len(table)
            return rows

        return decode

    return {
        "matrix by columns": decoder(by_rows=False, mapped=False),
        "matrix by columns, file mapped": decoder(by_rows=False, mapped=True),
        "matrix by rows": decoder(by_rows=True, mapped=False),
        "matrix by rows, file mapped": decoder(by_rows=True, mapped=True),
    }


def _weights() -> list[torch.Tensor]:
    sizes = (*LAYERS, 1)
    return [torch.randn(wide, narrow) for wide, narrow in itertools.pairwise(sizes)]


def _product(size: int, threads: int, by_columns: bool) -> Piece:
    """All products of the network for a batch, into memory that is there already."""
    weights = _weights()
    inputs = [torch.randn(LAYERS[0], size).t() for _ in range(threads)]
    if not by_columns:
        inputs = [rows.contiguous() for rows in inputs]
    outputs = [[torch.empty(size, w.shape[1]) for w in weights] for _ in range(threads)]

    def multiply(thread: int) -> int:
        with torch.inference_mode():
            rows = inputs[thread]
            for weight, output in zip(weights, outputs[thread], strict=True):
                rows = torch.mm(rows, weight, out=output)
        return size

    return multiply


def _products(job: Job) -> dict[str, Piece]:
    return {
        f"{size:,} rows by {'columns' if by_columns else 'rows'}, a batch a core": _product(
            size, job.threads, by_columns
        )
        for size in (256, 512, 1024, 2048, 4096, 16_384)
        for by_columns in (False, True)
    }


def _networks(job: Job) -> dict[str, Piece]:
    """The whole network, with bias and activation, as torch runs it."""
    network = load_network(job.weights)

    def forward(size: int) -> Piece:
        inputs = [torch.randn(size, LAYERS[0]) for _ in range(job.threads)]

        def piece(thread: int) -> int:
            with torch.inference_mode():
                network(inputs[thread])
            return size

        return piece

    return {f"{size:,} rows, a batch a core": forward(size) for size in (512, 1024, 2048, 4096)}


def _products_with_all_cores(job: Job) -> dict[str, float]:
    """The same with torch's own threads: one batch after another, all cores on each."""
    found = {}
    for size in (4096, 16_384, 65_536):
        piece = _product(size, 1, by_columns=False)
        torch.set_num_threads(job.threads)
        piece(0)
        end = time.perf_counter() + SECONDS
        rows, spent = 0, time.process_time()
        while time.perf_counter() < end:
            rows += piece(0)
        name = f"{size:,} rows by rows, all cores on a batch"
        found[name] = rows / (time.process_time() - spent)
    return found


def _encoders(job: Job) -> dict[str, Piece]:
    """Real results, a file each time; the format is that of the engines, zstd at level 1."""
    folder = Path(job.source).parent
    scores = np.load(folder / "scores.npy", mmap_mode="r")[:ENCODED_ROWS].copy()
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")[:ENCODED_ROWS].copy()
    ids = pa.array(np.arange(len(scores)))
    batch = pa.record_batch([ids, pa.array(scores), vector_array(vectors)], schema=RESULTS)
    strict = pa.schema(
        [
            pa.field(ID, pa.int64(), nullable=False),
            pa.field("score", pa.float32(), nullable=False),
            pa.field(
                "vector",
                pa.list_(pa.field("item", pa.float32(), nullable=False), VECTOR_SIZE),
                nullable=False,
            ),
        ]
    )
    never_null = pa.RecordBatch.from_arrays(
        [ids, pa.array(scores), vector_array(vectors).cast(strict.field("vector").type)],
        schema=strict,
    )

    def encoder(batch: pa.RecordBatch, **options: object) -> Piece:
        def encode(thread: int) -> int:
            path = Path(job.scratch, f"encoded-{thread}.parquet")
            with pq.ParquetWriter(
                path,
                batch.schema,
                compression="zstd",
                compression_level=1,
                use_dictionary=False,
                **options,
            ) as writer:
                writer.write_batch(batch)
            return int(batch.num_rows)

        return encode

    plain: dict[str, object] = {"write_statistics": False}
    return {
        "as pyarrow does it": encoder(batch),
        "statistics of ids only": encoder(batch, write_statistics=[ID]),
        "no statistics": encoder(batch, **plain),
        "no statistics, never null": encoder(never_null, **plain),
        "no statistics, pages of 64 KiB": encoder(batch, **plain, data_page_size=2**16),
        "no statistics, pages of 256 KiB": encoder(batch, **plain, data_page_size=2**18),
        "no statistics, pages of 64 KiB, never null": encoder(
            never_null, **plain, data_page_size=2**16
        ),
        "no statistics, never null, pages of the second version": encoder(
            never_null, **plain, data_page_version="2.0"
        ),
        "no statistics, bytes of floats apart": encoder(
            batch, **plain, use_byte_stream_split=["score", "vector.list.element"]
        ),
    }
