"""Ray without Ray Data: one `ray.remote` call a chunk, as one writes it at first."""

import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch

from benchmarks.scoring.job import Job, Times
from benchmarks.scoring.network import PARQUET, RESULTS, load_network, score_batch
from benchmarks.scoring.ray_local import ray_on_this_machine


@ray.remote
def score_chunk(network: torch.nn.Module, rows: pa.RecordBatch) -> pa.RecordBatch:
    """Scores and vectors of a chunk; the model comes out of the object store each time."""
    torch.set_num_threads(1)
    return score_batch(network, rows)


def run(job: Job) -> Times:
    """Read here, score in remote calls (two a core under way), write here, in order."""
    with ray_on_this_machine(job):
        network = ray.put(load_network(job.weights))
        samples = [pq.read_table(path).combine_chunks() for path in Path(job.sample).iterdir()]
        ray.get([score_chunk.remote(network, rows.to_batches()[0]) for rows in samples])
        ready = time.time()
        under_way: list[Any] = []
        with pq.ParquetWriter(Path(job.target, "part.parquet"), RESULTS, **PARQUET) as writer:
            for path in job.files():
                for batch in pq.ParquetFile(path).iter_batches(job.options["chunk"]):
                    under_way.append(score_chunk.remote(network, batch))
                    if len(under_way) > 2 * job.threads:
                        writer.write_batch(ray.get(under_way.pop(0)))
            for result in under_way:
                writer.write_batch(ray.get(result))
        return Times(ready, time.time())
