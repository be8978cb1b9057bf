"""Ray Data: `map_batches` with a pool of actors."""

import time

import pyarrow as pa
import ray
import ray.data
import torch

from benchmarks.scoring.job import Job, Times, last_ready, mark_ready
from benchmarks.scoring.network import MICRO_BATCH, PARQUET, load_network, score_batch
from benchmarks.scoring.ray_local import ray_on_this_machine


class Model:
    """Loaded once an actor."""

    def __init__(self, weights: str, scratch: str, torch_threads: int) -> None:
        torch.set_num_threads(torch_threads)
        self.network = load_network(weights)
        mark_ready(scratch)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Scores and vectors of a batch."""
        return pa.Table.from_batches([score_batch(self.network, batch)])


def run(job: Job) -> Times:
    """Score with actors; the cluster has as many CPUs as there are cores."""
    options = job.options
    torch_threads = job.threads if options.get("torch_threads") else 1
    with ray_on_this_machine(job):
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        if "block_bytes" in options:
            context.target_max_block_size = options["block_bytes"]
        rows = ray.data.read_parquet(job.source)
        scored = rows.map_batches(
            Model,
            fn_constructor_args=(job.weights, job.scratch, torch_threads),
            batch_size=MICRO_BATCH,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=options.get("actors", job.threads)),
            num_cpus=options["cpus"],
        )
        scored.write_parquet(f"local://{job.target}", **PARQUET)
        return Times(last_ready(job.scratch), time.time())
