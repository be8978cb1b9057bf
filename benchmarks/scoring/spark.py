"""Spark in local mode: `mapInArrow`, the weights broadcast, the model loaded once a worker."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from pyspark.broadcast import Broadcast
from pyspark.sql import SparkSession

from benchmarks.scoring.job import Job, Times
from benchmarks.scoring.network import MICRO_BATCH, Network, score_batch

SCHEMA = "id long, score float, vector array<float>"
_networks: dict[int, Network] = {}


def run(job: Job) -> Times:
    """Score, after the sample has started the Python workers."""
    spark = _session(job)
    try:
        spark.sparkContext.setLogLevel("ERROR")
        weights = torch.load(job.weights, weights_only=True)
        arrays = {name: tensor.numpy() for name, tensor in weights.items()}
        scored = _scorer(spark.sparkContext.broadcast(arrays))
        _write(spark, scored, job.sample, os.path.join(job.scratch, "sample"))
        ready = time.time()
        _write(spark, scored, job.source, job.target)
        return Times(ready, time.time())
    finally:
        spark.stop()


def _session(job: Job) -> SparkSession:
    settings = {
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.local.dir": str(Path(job.scratch, "spark")),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(MICRO_BATCH),
        "spark.sql.parquet.compression.codec": "zstd",
        "spark.hadoop.parquet.compression.codec.zstd.level": "1",
        "spark.hadoop.parquet.enable.dictionary": "false",
        **job.options,
    }
    builder = SparkSession.builder.master(f"local[{job.threads}]").appName("scoring")
    for name, value in settings.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def _scorer(
    weights: Broadcast[dict[str, Any]],
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def scored(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        network = network_of_worker(weights)
        for batch in batches:
            found = score_batch(network, batch)
            lists = found.column(2).cast(pa.list_(pa.float32()))
            yield pa.RecordBatch.from_arrays(
                [found.column(0), found.column(1), lists], names=["id", "score", "vector"]
            )

    return scored


def network_of_worker(weights: Broadcast[dict[str, Any]]) -> Network:
    """The model of this process, loaded when it is first asked for."""
    if 0 not in _networks:
        torch.set_num_threads(1)
        network = Network()
        network.load_state_dict({k: torch.from_numpy(v) for k, v in weights.value.items()})
        _networks[0] = network.eval()
    return _networks[0]


def _write(spark: SparkSession, scored: Any, source: str, target: str) -> None:
    rows = spark.read.parquet(source)
    rows.mapInArrow(scored, SCHEMA).write.mode("overwrite").parquet(target)
