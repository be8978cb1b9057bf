"""Daft: a class that holds the model and scores in batches."""

import os
import time
from typing import Any

import daft
import pyarrow as pa
import torch
from daft import DataType, Series, col

from benchmarks.scoring.job import Job, Times, last_ready, mark_ready
from benchmarks.scoring.network import (
    FEATURES,
    ID,
    MICRO_BATCH,
    VECTOR_SIZE,
    load_network,
    matrix,
    score,
    vector_array,
)

RESULT = DataType.struct(
    {
        "score": DataType.float32(),
        "vector": DataType.fixed_size_list(DataType.float32(), VECTOR_SIZE),
    }
)


class Model:
    """Loaded once an instance."""

    def __init__(self, weights: str, scratch: str, torch_threads: int) -> None:
        torch.set_num_threads(torch_threads)
        self.network = load_network(weights)
        mark_ready(scratch)

    @daft.method.batch(return_dtype=RESULT, unnest=True, batch_size=MICRO_BATCH)
    def predict(self, *columns: Series) -> pa.Array:
        """Scores and vectors of a batch."""
        rows = matrix([column.to_arrow().to_numpy(zero_copy_only=False) for column in columns])
        scores, vectors = score(self.network, rows)
        return pa.StructArray.from_arrays(
            [pa.array(scores), vector_array(vectors)], names=["score", "vector"]
        )


def run(job: Job) -> Times:
    """Score with the native runner, after the sample."""
    daft.set_runner_native()
    options = job.options
    torch_threads = job.threads if options.get("torch_threads") else 1
    wrap = daft.cls(
        use_process=options.get("process"),
        max_concurrency=options.get("instances", job.threads),
    )
    model = wrap(Model)(job.weights, job.scratch, torch_threads)
    _write(model, job.sample, os.path.join(job.scratch, "sample"))
    warm = time.time()
    _write(model, job.source, job.target)
    return Times(max(warm, last_ready(job.scratch)), time.time())


def _write(model: Any, source: str, target: str) -> None:
    frame = daft.read_parquet(f"{source}/*.parquet")
    scored = frame.select(col(ID), model.predict(*(col(name) for name in FEATURES)))
    scored.write_parquet(target, compression="zstd")
