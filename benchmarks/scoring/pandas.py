"""pandas in chunks: a DataFrame in, torch, a DataFrame out."""

import time
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import torch

from benchmarks.scoring.job import Job, Times
from benchmarks.scoring.network import (
    FEATURES,
    ID,
    PARQUET,
    VECTORS,
    load_network,
    score,
    vector_array,
)


def run(job: Job) -> Times:
    """One chunk after another, torch with all cores, a file a chunk."""
    torch.set_num_threads(job.threads)
    network = load_network(job.weights)
    ready = time.time()
    number = 0
    for path in job.files():
        for batch in pq.ParquetFile(path).iter_batches(job.options["chunk"]):
            frame = batch.to_pandas()
            scores, vectors = score(network, frame[list(FEATURES)].to_numpy(dtype="float32"))
            column: Any = list(vectors)
            if not job.options.get("lists"):
                array = pd.arrays.ArrowExtensionArray(vector_array(vectors))
                column = pd.Series(array, dtype=pd.ArrowDtype(VECTORS))
            result = pd.DataFrame({ID: frame[ID], "score": scores, "vector": column})
            result.to_parquet(
                Path(job.target, f"part-{number:05}.parquet"),
                index=False,
                **PARQUET,
            )
            number += 1
    return Times(ready, time.time())
