"""This project's engine."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from batch_assets.inference.scoring import Scorer
from batch_assets.inference.tuning import Tuning
from benchmarks.scoring.job import Job, Times
from benchmarks.scoring.network import FEATURES, ID, LISTS, PARQUET, load_network

READ_ROWS = 16_384
Writer = Callable[[Iterator[pa.RecordBatch], pa.Schema, Path], None]


def run(job: Job) -> Times:
    """Score as the fraud workload does.

    ``options["format"]`` says what is written, ``options["lists"]`` that all features are in one
    column.
    """
    lists = job.options.get("lists", False)
    source = Path(job.source).with_name("lists") if lists else Path(job.source)
    files = sorted(source.glob("*.parquet"))
    scorer = Scorer(
        load_network(job.weights),
        FEATURES,
        device="cpu",
        tuning=Tuning(source.with_name("tuning.json"), "benchmark"),
        column=LISTS if lists else None,
    )
    ready = time.time()
    schema = scorer.output_schema(pq.read_schema(files[0]), [ID])
    results = scorer.score(_batches(files), [ID])
    _WRITERS[job.options.get("format", "zstd 1")](results, schema, Path(job.target))
    return Times(ready, time.time())


def _batches(files: Sequence[Path]) -> Iterator[pa.RecordBatch]:
    for path in files:
        # Not ahead of what is asked for: the engine itself reads ahead.
        yield from pq.ParquetFile(path, pre_buffer=False).iter_batches(READ_ROWS)


def _parquet(compression: str, level: int | None = None) -> Writer:
    def write(results: Iterator[pa.RecordBatch], schema: pa.Schema, folder: Path) -> None:
        changed = {**PARQUET, "compression": compression, "compression_level": level}
        with pq.ParquetWriter(folder / "part.parquet", schema, **changed) as writer:
            for batch in results:
                writer.write_batch(batch)

    return write


def _arrow(results: Iterator[pa.RecordBatch], schema: pa.Schema, folder: Path) -> None:
    with pa.ipc.new_file(str(folder / "part.arrow"), schema) as writer:
        for batch in results:
            writer.write_batch(batch)


def _lance(results: Iterator[pa.RecordBatch], schema: pa.Schema, folder: Path) -> None:
    import lance

    reader = pa.RecordBatchReader.from_batches(schema, results)
    lance.write_dataset(reader, str(folder / "part.lance"))


_WRITERS = {
    "uncompressed": _parquet("none"),
    "zstd 1": _parquet("zstd", 1),
    "zstd 3": _parquet("zstd", 3),
    "lz4": _parquet("lz4"),
    "Arrow IPC": _arrow,
    "Lance": _lance,
}
