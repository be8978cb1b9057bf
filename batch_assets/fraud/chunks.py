"""Scores a chunk of a day's rows into files that nobody reads yet."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from batch_assets.fraud import tables
from batch_assets.fraud.embeddings import EMBEDDINGS, PASSED_THROUGH, earlier_scores
from batch_assets.fraud.scorer import load_scorer
from batch_assets.inference.journal import Chunk, Mark
from batch_assets.protocol import Moment, passed
from batch_assets.storage.models import ModelStore
from batch_assets.storage.vectors import StagedRows, VectorStore

if TYPE_CHECKING:
    from batch_assets.inference.cache import EmbeddingCache
    from batch_assets.inference.known import Known
    from batch_assets.inference.scoring import Scorer
    from batch_assets.inference.stats import EngineStats

ROWS = 1_048_576
"""Most rows of a chunk."""
SECONDS = 20.0
"""Seconds after which a chunk ends, at the next block of rows."""
READ_ROWS = 65_536
WATCHED = 8
"""Of so many chunks in one the cache watches whether it would pay, where it does not."""
# Without a dictionary of values that hardly repeat, and statistics that nobody filters by.
ENCODING: dict[str, Any] = {
    "use_dictionary": ["customer_id", "terminal_id", "model_version", "scored_at"],
    "write_statistics": ["transaction_id", "customer_id", "terminal_id", "happened_at", "score"],
}

Constants = Mapping[str, object]
cache_of_one = lru_cache(maxsize=1)


@dataclass(frozen=True)
class ChunkTask:
    """Rows of a day to be scored next.

    Args:
        rows: first row, and the row after the last, counted over all files.
        salt: what results depend on beside their input, as it was when the day was begun.
        files: the day's feature files and their number of rows, in a fixed order.
        before: key of the scoring of that day which readers have now, if any.
        folder: where the chunk's files and its record go.
        attempt: number of the attempt.
    """

    day: date
    key: str
    model_version: str
    salt: str
    rows: tuple[int, int]
    files: tuple[tuple[str, int], ...]
    before: str | None
    folder: str
    attempt: int

    def rest(self, chunk: Chunk) -> "list[ChunkTask]":
        """What is left to be done when the chunk, which ended early, is done."""
        left = (chunk.stop, self.rows[1])
        return [replace(self, rows=left)] if left[0] < left[1] else []


@dataclass(frozen=True)
class CacheOptions:
    """Where rows that were embedded before are kept, see :mod:`batch_assets.inference.cache`."""

    folder: Path
    mode: str
    limit_bytes: int


class ChunkWorker:
    """Scores one chunk after the other on one device.

    Args:
        scorer: gives the scorer of a version of the model.
    """

    def __init__(
        self, scorer: "Callable[[str], Scorer]", vectors: VectorStore, cache: CacheOptions
    ) -> None:
        self._scorer = scorer
        self._vectors = vectors
        self._options = cache
        self._earlier = cache_of_one(self._look_up)
        self._cache = cache_of_one(self._open_cache)
        self._chunks = 0

    def __call__(self, task: ChunkTask) -> Chunk:
        """Score a chunk, or as much of it as can be done before a stop."""
        from batch_assets.inference.known import FirstOf
        from batch_assets.inference.plan import PlanChanged
        from batch_assets.inference.spread import stop_asked

        scorer = self._scorer(task.model_version)
        if scorer.salt != task.salt:
            raise PlanChanged(f"{task.day}: {scorer.salt} came after {task.salt}")
        earlier = self._earlier(task.day, task.before, task.model_version)
        cache = self._cache(task.salt)
        asked = cache is not None and (cache.in_use or self._chunks % WATCHED == 0)
        self._chunks += 1
        known = [place for place in (earlier, cache if asked else None) if place is not None]
        chunk = score_chunk(
            task, scorer, self._vectors, stop_asked, FirstOf(*known) if known else None
        )
        if cache is not None and asked:
            cache.close()
        return chunk

    def _look_up(self, day: date, before: str | None, version: str) -> "Known | None":
        return earlier_scores(self._vectors, day, before, version)

    def _open_cache(self, salt: str) -> "EmbeddingCache | None":
        from batch_assets.inference.cache import open_cache

        options = self._options
        return open_cache(options.folder, options.mode, options.limit_bytes, salt)


@dataclass(frozen=True)
class ChunkWorkers:
    """Makes a worker in a process of its own; can be pickled."""

    models: ModelStore
    vectors_uri: str
    home: Path
    precision: str
    gpu_memory_share: float
    cache: CacheOptions

    def __call__(self, device: str) -> ChunkWorker:
        """A worker that loads the model once."""
        from batch_assets.inference.devices import limit_memory

        limit_memory(device, self.gpu_memory_share)

        @cache_of_one
        def scorer(version: str) -> "Scorer":
            return load_scorer(self.models, version, self.home, device, self.precision)

        return ChunkWorker(scorer, VectorStore(self.vectors_uri), self.cache)


def score_chunk(
    task: ChunkTask,
    scorer: "Scorer",
    vectors: VectorStore,
    stop: Callable[[], bool],
    known: "Known | None" = None,
) -> Chunk:
    """Score the task's rows, or the first of them.

    The chunk ends early when it has taken long enough, and at once when ``stop`` says so: what is
    scored by then is kept.
    """
    from batch_assets.inference.stats import EngineStats

    start, folder = task.rows[0], Path(task.folder)
    stats, name, mark = EngineStats(), f"scores-{start}.parquet", Mark(folder, start)
    passed(Moment.CHUNK_BEGUN)
    schema = tables.FRAUD_PREDICTIONS.file_schema
    path = folder / name
    try:
        with pq.ParquetWriter(path, schema, compression="zstd", **ENCODING) as writer:

            def vector_batches() -> Iterator[pa.RecordBatch]:
                constants = _constants(task)  # once: look-ups are quick where all rows agree
                for batch in _scored(task, scorer, stats, stop, known):
                    writer.write_batch(with_constants(batch, constants, schema))
                    yield with_constants(batch, constants, EMBEDDINGS.schema)
                    mark.advance(stats)

            staged = vectors.stage(EMBEDDINGS, task.day, vector_batches())
    finally:
        mark.close()
    stats.bytes_written += path.stat().st_size + vectors.staged_bytes(staged)
    passed(Moment.FILES_WRITTEN)
    made = {"rows": staged.rows, "vectors": staged.files}
    return Chunk(start, start + staged.rows, task.attempt, (name,), made, stats)


def staged_vectors(chunk: Chunk) -> StagedRows:
    """The vectors that a chunk made."""
    return StagedRows(chunk.made["rows"], tuple(chunk.made["vectors"]))


def _scored(
    task: ChunkTask,
    scorer: "Scorer",
    stats: "EngineStats",
    stop: Callable[[], bool],
    known: "Known | None",
) -> Iterator[pa.RecordBatch]:
    until = time.monotonic() + SECONDS
    rows = rows_between(task.files, *task.rows)
    source = _until(rows, lambda: stop() or time.monotonic() > until)
    results = scorer.score(source, PASSED_THROUGH, stats, known=known, hashes=True)
    with closing(results):
        for batch in results:
            yield batch
            if stop():
                break


def _until(batches: Iterator[pa.RecordBatch], end: Callable[[], bool]) -> Iterator[pa.RecordBatch]:
    """The batches, at least one, that come before the end."""
    for batch in batches:
        yield batch
        if end():
            return


def rows_between(
    files: Sequence[tuple[str, int]], start: int, stop: int
) -> Iterator[pa.RecordBatch]:
    """Rows ``start`` to ``stop`` of Parquet files laid one behind the other, given their rows."""
    first = 0
    for path, count in files:
        low, high = max(start - first, 0), min(stop - first, count)
        first += count
        if low < high:
            yield from _rows_of(path, low, high)


def _rows_of(path: str, low: int, high: int) -> Iterator[pa.RecordBatch]:
    # Without pre_buffer, which would read all row groups ahead: half the memory and the time.
    with pq.ParquetFile(path, pre_buffer=False) as parquet:
        at, groups, skipped = 0, [], 0
        for group in range(parquet.num_row_groups):
            rows = parquet.metadata.row_group(group).num_rows
            if at + rows <= low:
                skipped += rows
            elif at < high:
                groups.append(group)
            at += rows
        at = skipped
        for batch in parquet.iter_batches(batch_size=READ_ROWS, row_groups=groups):
            begin, end = max(low - at, 0), min(high - at, batch.num_rows)
            at += batch.num_rows
            if begin < end:
                yield batch.slice(begin, end - begin)


def _constants(task: ChunkTask) -> Constants:
    return {
        "model_version": task.model_version,
        "scored_at": datetime.now(UTC).replace(tzinfo=None),
        "day": task.day,
        "scoring_key": task.key,
    }


def with_constants(
    batch: pa.RecordBatch, constants: Constants, schema: pa.Schema
) -> pa.RecordBatch:
    """The columns of a schema, those that the batch lacks filled with constants."""
    columns = [
        batch[field.name]
        if field.name in batch.schema.names
        else pa.repeat(pa.scalar(constants[field.name], field.type), batch.num_rows)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
