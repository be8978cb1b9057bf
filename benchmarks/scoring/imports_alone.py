"""No engine: what Python, pyarrow, torch and the model take, which every engine has to have."""

import time

import pyarrow.parquet  # noqa: F401

from benchmarks.scoring.job import Job, Times
from benchmarks.scoring.network import load_network


def run(job: Job) -> Times:
    """Load, compute a little, and wait long enough to be seen."""
    import torch

    network = load_network(job.weights)
    with torch.inference_mode():
        network(torch.zeros(4096, 64))
    time.sleep(1)
    return Times(time.time(), time.time())
