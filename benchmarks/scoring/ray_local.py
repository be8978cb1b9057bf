"""A Ray cluster on this machine alone, which ends with what needs it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray

from benchmarks.scoring.job import Job

OBJECT_STORE_BYTES = 2 * 2**30


@contextmanager
def ray_on_this_machine(job: Job) -> Iterator[None]:
    """As many CPUs as the job has threads, 2 GiB for objects, no dashboard, loopback only."""
    # Not in the job's folder: the path of a socket may have 107 characters, and Ray adds 80.
    with TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        ray.init(
            num_cpus=job.threads,
            object_store_memory=job.options.get("store_bytes", OBJECT_STORE_BYTES),
            include_dashboard=False,
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
            _temp_dir=folder,
        )
        try:
            yield
        finally:
            ray.shutdown()
