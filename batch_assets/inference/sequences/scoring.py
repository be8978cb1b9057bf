"""Sequences in, scores and embeddings out, as a stream of record batches.

As for rows of one shape, how the input is cut and which batches are chosen leaves no trace in the
result: see :mod:`batch_assets.inference.sequences.lengths`.
"""

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from functools import partial

import pyarrow as pa
import torch
from torch import nn

from batch_assets.errors import BatchAssetsError
from batch_assets.inference.devices import resolve_device, usual_threads
from batch_assets.inference.memory import memory_budget
from batch_assets.inference.scoring import SCORE, VECTOR
from batch_assets.inference.sequences.budgets import Budgets
from batch_assets.inference.sequences.compute import (
    Done,
    Prepared,
    SequenceCompute,
    prepare,
    probe,
)
from batch_assets.inference.sequences.planning import plan
from batch_assets.inference.sequences.windows import Encoded, Window, Windows
from batch_assets.inference.sizing import ROW_STEP
from batch_assets.inference.stages import ahead, given_out, timed
from batch_assets.inference.stats import EngineStats
from batch_assets.inference.tuning import Tuning

OUTPUT_ROWS = 65_536
WINDOW_BYTES = 32 * 2**20
# Bytes of results that wait for the consumer.
QUEUED_BYTES = 32 * 2**20
# Batches that wait to be computed, for each thread that computes.
BATCHES_AHEAD = 4


class SequenceScorer:
    """One model over sequences, on one device; load it once, then score any number of partitions.

    Args:
        network: maps float32 [n, length, features], padding before the steps, and lengths, int64
            [n], to probabilities [n] and embeddings [n, size]; rows are independent of each other
            and padding has no influence, as in
            :class:`batch_assets.inference.encoder.HistoryEncoder`.
        column: name of the input column: lists of fixed-size lists of ``features`` numbers, or
            what ``encoded`` decodes.
        features: numbers in a step.
        encoded: how the column is decoded; None if it holds the numbers themselves.
        device: see :func:`batch_assets.inference.devices.resolve_device`.
        precision: ``fp32`` or ``bf16`` (matrix products only).
        batch_steps: steps computed at once, padding included; None finds them while scoring, for
            each class of lengths.
        threads: threads that compute, each a batch of its own; None chooses.
        host_threads: threads that decode and pad.
        window_bytes: sequences that are reordered at once, results and columns passed through
            included. A few windows are in memory, whatever the partition's size.
        tuning: where the sizes found are kept for the next run; None does not keep them.

    Example:
        >>> network = HistoryEncoder.from_tensors(model.tensors)
        >>> scorer = SequenceScorer(network, "history", features=16)
        >>> for batch in scorer.score(reader, passthrough=["customer_id"]):
        ...     writer.write_batch(batch)
    """

    def __init__(
        self,
        network: nn.Module,
        column: str,
        features: int,
        *,
        encoded: Encoded | None = None,
        device: str = "auto",
        precision: str = "fp32",
        batch_steps: int | None = None,
        threads: int | None = None,
        host_threads: int = 1,
        window_bytes: int = WINDOW_BYTES,
        tuning: Tuning | None = None,
    ) -> None:
        if precision not in ("fp32", "bf16"):
            raise BatchAssetsError(f"Precision {precision!r} is not supported. Use fp32 or bf16.")
        if batch_steps is not None and batch_steps < ROW_STEP:
            raise BatchAssetsError(f"batch_steps is {batch_steps}: it must be {ROW_STEP} or more.")
        if min(host_threads, 1 if threads is None else threads) < 1:
            raise BatchAssetsError("threads and host_threads must be 1 or more.")
        self.column, self.features = column, features
        self.device, self.device_note = resolve_device(device)
        self.precision = precision
        self.threads = threads or usual_threads(self.device)
        self._encoded = encoded
        self._host_threads = host_threads
        self._window_bytes = window_bytes
        self._torch_threads = torch.get_num_threads()
        network = network.to(self.device).eval()
        self.embedding_size = probe(network, features, self.device)
        on_cuda = self.device.type == "cuda"
        name = torch.cuda.get_device_name(self.device) if on_cuda else self.device.type
        names = (f"{name}, {self.threads} threads", precision)
        memory = partial(memory_budget, self.device)
        self.budgets = Budgets(features, batch_steps, tuning, names, memory)
        half = precision == "bf16"
        self._compute = SequenceCompute(network, self.device, self.budgets, half=half)

    def output_schema(self, schema: pa.Schema, passthrough: Sequence[str] = ()) -> pa.Schema:
        """The schema of what ``score`` yields for rows of ``schema``.

        Raises BatchAssetsError when a column to pass through is not there.
        """
        missing = [name for name in passthrough if name not in schema.names]
        if missing:
            raise BatchAssetsError(
                f"The rows to score lack the columns to pass through: {', '.join(missing)}."
            )
        vector = pa.list_(pa.float32(), self.embedding_size)
        fields = [schema.field(name) for name in passthrough]
        return pa.schema([*fields, pa.field(SCORE, pa.float32()), pa.field(VECTOR, vector)])

    def score(
        self,
        batches: Iterable[pa.RecordBatch],
        passthrough: Sequence[str] = (),
        stats: EngineStats | None = None,
    ) -> Generator[pa.RecordBatch, None, None]:
        """Yield, row by row of the input, the columns passed through, ``score`` and ``vector``.

        As :meth:`batch_assets.inference.scoring.Scorer.score` does; within a window sequences are
        computed in another order, and given out in theirs. A null is a sequence without steps; a
        null number reaches the network as NaN. Raises BatchAssetsError when a column is missing
        or holds something else, and what ``batches`` or decoding raises.
        """
        stats = EngineStats() if stats is None else stats
        windows = ahead(
            timed(self._windows(batches, passthrough, stats), stats.reading),
            size=lambda window: self._window_bytes,
            limit=self._window_bytes,
            blocked=_ignore,
        )
        prepared = ahead(
            self._prepared(windows),
            size=self._waiting_bytes,
            limit=self._window_bytes,
            blocked=_ignore,
        )
        results = ahead(
            self._results(prepared, passthrough, stats),
            size=lambda batch: batch.nbytes,
            limit=QUEUED_BYTES,
            blocked=_ignore,
        )
        yield from given_out(results, stats, self.device)

    def _windows(
        self, batches: Iterable[pa.RecordBatch], passthrough: Sequence[str], stats: EngineStats
    ) -> Iterator[Window]:
        def counted(batch: pa.RecordBatch) -> pa.RecordBatch:
            self.output_schema(batch.schema, passthrough)
            stats.bytes_read += batch.nbytes
            return batch

        names = (self.column, self.features, self._encoded, passthrough)
        windows = Windows(*names, self.embedding_size, self._window_bytes)
        return windows.of(map(counted, batches))

    def _prepared(self, windows: Generator[Window, None, None]) -> Iterator[Prepared]:
        """Batches in the order planned, decoded and padded by the host's threads."""
        waiting: deque[Future[Prepared]] = deque()
        with (
            closing(windows),
            ThreadPoolExecutor(self._host_threads, "batch_assets-prepare") as pool,
        ):
            try:
                for window in windows:
                    for part in plan(window, self.budgets.ask):
                        waiting.append(pool.submit(prepare, part, self.features))
                        if len(waiting) > self._host_threads:
                            yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _results(
        self,
        prepared: Generator[Prepared, None, None],
        passthrough: Sequence[str],
        stats: EngineStats,
    ) -> Iterator[pa.RecordBatch]:
        stats.device, stats.threads = str(self.device), self.threads
        stats.precision = self.precision
        pending: set[Future[Done]] = set()
        begun: deque[Window] = deque()
        with closing(prepared), self._threads() as pool, _waiting(stats):
            for batch in prepared:
                stats.read_seconds += batch.seconds
                if not begun or begun[-1] is not batch.part.window:
                    begun.append(batch.part.window)
                pending.add(pool.submit(self._compute.run, batch))
                if len(pending) > self.threads:
                    pending = _finished(pending, stats)
                while begun and not begun[0].left:
                    yield from self._given_out(begun.popleft(), passthrough)
            while pending:
                pending = _finished(pending, stats)
            for window in begun:
                yield from self._given_out(window, passthrough)

    def _given_out(self, window: Window, passthrough: Sequence[str]) -> Iterator[pa.RecordBatch]:
        schema = self.output_schema(window.batch.schema, passthrough)
        columns = [window.batch.column(name) for name in passthrough]
        vectors = pa.FixedSizeListArray.from_arrays(
            pa.array(window.vectors.reshape(-1)), self.embedding_size
        )
        results = pa.RecordBatch.from_arrays(
            [*columns, pa.array(window.scores), vectors], schema=schema
        )
        for start in range(0, results.num_rows, OUTPUT_ROWS):
            yield results.slice(start, OUTPUT_ROWS)

    def _waiting_bytes(self, batch: Prepared) -> int:
        """Such that a few batches wait, and no more than a window's sequences are in them."""
        share = len(batch.part.picked) / len(batch.part.window.lengths)
        return int(self._window_bytes * max(share, 1 / (BATCHES_AHEAD * self.threads)))

    @contextmanager
    def _threads(self) -> Iterator[ThreadPoolExecutor]:
        """Threads that compute, with one torch thread each; torch's own are as before at the end.

        See :class:`batch_assets.inference.compute.Compute`.
        """
        name = "batch_assets-compute"
        try:
            with ThreadPoolExecutor(self.threads, name, torch.set_num_threads, (1,)) as pool:
                try:
                    yield pool
                finally:
                    pool.shutdown(cancel_futures=True)
        finally:
            torch.set_num_threads(self._torch_threads)


def _finished(pending: set[Future[Done]], stats: EngineStats) -> set[Future[Done]]:
    """Wait for a batch, and note what those that are done took; returns the others."""
    done, pending = wait(pending, return_when=FIRST_COMPLETED)
    for result in (each.result() for each in done):
        result.part.window.left -= len(result.part.picked)
        stats.compute_seconds += result.seconds / stats.threads
        stats.out_of_memory += result.retries
    return pending


@contextmanager
def _waiting(stats: EngineStats) -> Iterator[None]:
    """Count the seconds, on average over the threads, in which nothing was computed."""
    started, computed = time.perf_counter(), stats.compute_seconds
    try:
        yield
    finally:
        passed = time.perf_counter() - started
        stats.waiting_seconds += max(0.0, passed - (stats.compute_seconds - computed))


def _ignore(seconds: float) -> None:
    """Seconds that nobody counts."""
