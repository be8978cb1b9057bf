"""Rows in, scores and embeddings out, as a stream of record batches.

Bit for bit the same result for the same rows in the same order, on the same kind of device:
however the input is cut, and whatever size of compute batch is chosen, the network only sees
multiples of 256 rows, the tail padded, shapes between which results on the CPU do not differ.
"""

import os
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from batch_assets.errors import BatchAssetsError
from batch_assets.inference.batches import feature_matrix, recut
from batch_assets.inference.compute import Compute
from batch_assets.inference.devices import resolve_device
from batch_assets.inference.precision import BOUND, PRECISIONS, choose_precision
from batch_assets.inference.sizing import ROW_STEP, BatchSizer, Learned, half_of
from batch_assets.inference.stages import ahead, timed
from batch_assets.inference.stats import EngineStats
from batch_assets.inference.tuning import Tuning

OUTPUT_ROWS = 65_536
# Bytes of input and output that a block, which is what goes from stage to stage, may have, and
# bytes that wait between two stages.
BLOCK_BYTES = 64 * 2**20
QUEUED_BYTES = 32 * 2**20
SCORE = "score"
VECTOR = "vector"

# Schema of the output, columns passed through, inputs float32 [rows, features].
Block = tuple[pa.Schema, list[pa.Array], np.ndarray]


class Scorer:
    """One model on one device; load it once, then score any number of partitions.

    Args:
        network: maps float32 [n, features] to probabilities [n] and embeddings [n, size], rows
            independent of each other.
        features: names of its input columns, in order.
        device: see :func:`batch_assets.inference.devices.resolve_device`.
        precision: ``fp32``, ``bf16`` (matrix products only), or ``auto``: the faster one, if on
            the first rows scores move by at most ``bound``. The attribute of the same name says
            what is used, and ``auto`` until the first rows came.
        batch_rows: rows computed at once, a multiple of 256; None chooses while scoring.
        threads: threads that compute, each a batch of its own; None chooses.
        tuning: where the sizes chosen are kept for the next run; None does not keep them.

    Example:
        >>> network = TabularNetwork.from_tensors(model.tensors)
        >>> scorer = Scorer(network, model.features)
        >>> stats = EngineStats()
        >>> for batch in scorer.score(reader, passthrough=["transaction_id"], stats=stats):
        ...     writer.write_batch(batch)
    """

    def __init__(
        self,
        network: nn.Module,
        features: Sequence[str],
        *,
        device: str = "auto",
        precision: str = "fp32",
        bound: float = BOUND,
        batch_rows: int | None = None,
        threads: int | None = None,
        tuning: Tuning | None = None,
    ) -> None:
        if precision not in PRECISIONS:
            raise BatchAssetsError(
                f"Precision {precision!r} is not supported. Use {', '.join(PRECISIONS)}."
            )
        if batch_rows is not None and (batch_rows < ROW_STEP or batch_rows % ROW_STEP):
            raise BatchAssetsError(
                f"batch_rows is {batch_rows}: it must be a multiple of {ROW_STEP}, at least that."
            )
        if threads is not None and threads < 1:
            raise BatchAssetsError(f"threads is {threads}: at least one has to compute.")
        self.features = tuple(features)
        self.device, self.device_note = resolve_device(device)
        self.precision = precision
        self.threads = threads or _usual_threads(self.device)
        self._torch_threads = torch.get_num_threads()
        self._bound = bound
        self._network = network.to(self.device).eval()
        self.embedding_size = self._probe()
        self._fixed_rows = batch_rows
        self._block_rows = _block_rows(len(self.features) + self.embedding_size, batch_rows)
        self._tuning = tuning
        self._kept: Learned | None = None
        self._sizer: BatchSizer | None = None

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

        ``score`` is float32, ``vector`` a fixed-size list of float32. Batches out hold up to
        65,536 rows, however the input is cut; no rows give no batch. A null in a feature reaches
        the network as NaN.

        Reading ``batches`` (in a thread of its own), computing, and what the consumer does with
        the results overlap; memory stays constant. Close the iterator, or exhaust it, to end the
        threads. ``stats`` is added to, and complete at the end. Raises BatchAssetsError when a
        column is missing or a feature is not a number, and what ``batches`` raises.
        """
        stats = EngineStats() if stats is None else stats
        began = time.perf_counter()
        read = ahead(
            timed(self._blocks(batches, passthrough), stats.reading),
            size=_block_bytes,
            limit=QUEUED_BYTES,
            blocked=_ignore,
        )
        results = ahead(
            self._results(timed(read, stats.waiting), stats),
            size=lambda batch: batch.nbytes,
            limit=QUEUED_BYTES,
            blocked=stats.waiting,
        )
        with closing(results):
            try:
                for batch in results:
                    stats.rows += batch.num_rows
                    started = time.perf_counter()
                    try:
                        yield batch
                    finally:
                        stats.write_seconds += time.perf_counter() - started
            finally:
                stats.elapsed_seconds += time.perf_counter() - began

    def score_matrix(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores float32 [n] and embeddings float32 [n, size] of rows, float32 [n, features]."""
        sizer = self._prepared(rows)
        with self._compute() as compute:
            return compute.run(rows, sizer, self.precision == "bf16", EngineStats())

    def _blocks(
        self, batches: Iterable[pa.RecordBatch], passthrough: Sequence[str]
    ) -> Iterator[Block]:
        """What is passed through, and the inputs as float32 [rows, features]."""
        for block in recut(batches, self._block_rows):
            schema = self.output_schema(block.schema, passthrough)
            columns = [block.column(name) for name in passthrough]
            yield schema, columns, feature_matrix(block, self.features)

    def _results(
        self, blocks: Generator[Block, None, None], stats: EngineStats
    ) -> Iterator[pa.RecordBatch]:
        stats.device, stats.threads = str(self.device), self.threads
        with closing(blocks), self._compute() as compute:
            for schema, columns, rows in blocks:
                sizer = self._prepared(rows)
                scores, vectors = compute.run(rows, sizer, self.precision == "bf16", stats)
                stats.precision, stats.batch_rows = self.precision, sizer.learned.rows
                self._keep(sizer)
                vector = pa.FixedSizeListArray.from_arrays(
                    pa.array(vectors.reshape(-1)), self.embedding_size
                )
                yield pa.RecordBatch.from_arrays(
                    [*columns, pa.array(scores), vector], schema=schema
                )

    def _compute(self) -> Compute:
        return Compute(
            self._network,
            self.device,
            threads=self.threads,
            size=self.embedding_size,
            torch_threads=self._torch_threads,
        )

    def _prepared(self, rows: np.ndarray) -> BatchSizer:
        """The precision is chosen and the sizes are known, from the first rows on."""
        if self.precision == "auto":
            self.precision = choose_precision(self._network, self.device, rows, self._bound)
        if self._sizer is None:
            if self._fixed_rows is not None:
                self._kept = Learned(self._fixed_rows, settled=True)
            elif self._tuning is not None:
                self._kept = self._tuning.read(self._device_name(), self.precision)
            self._sizer = BatchSizer(self._largest_rows(), self._kept)
        return self._sizer

    def _largest_rows(self) -> int:
        """Rows of a batch at most: on a CPU, each thread has two or more of each block."""
        if self._fixed_rows is not None or self.device.type != "cpu":
            return self._block_rows
        return max(ROW_STEP, half_of(self._block_rows // self.threads))

    def _keep(self, sizer: BatchSizer) -> None:
        """Keep what is new; while it is still measuring, that is a handful of times."""
        learned = sizer.learned
        if self._tuning is not None and self._fixed_rows is None and learned != self._kept:
            self._tuning.keep(learned, self._device_name(), self.precision)
            self._kept = learned

    def _device_name(self) -> str:
        if self.device.type == "cuda":
            return f"{torch.cuda.get_device_name(self.device)}, {self.threads} threads"
        return f"{self.device.type}, {self.threads} threads"

    def _probe(self) -> int:
        """Size of the embedding; also shows that the network takes as many features as named."""
        try:
            with torch.inference_mode():
                rows = torch.zeros(ROW_STEP, len(self.features), device=self.device)
                return int(self._network(rows)[1].shape[1])
        except RuntimeError as error:
            raise BatchAssetsError(
                f"The network does not run on {len(self.features)} features on {self.device}: "
                f"{error}. Check that the card's features are those that it was trained on."
            ) from error


def _block_rows(columns: int, batch_rows: int | None) -> int:
    """Rows of a block of so many float32 columns, in and out: a multiple of the batch's rows."""
    rows = OUTPUT_ROWS
    while rows > ROW_STEP and rows * columns * 4 > BLOCK_BYTES:
        rows //= 2
    return rows if batch_rows is None else max(batch_rows, rows - rows % batch_rows)


def _usual_threads(device: torch.device) -> int:
    """On a CPU the cores that this process may use; elsewhere two, that copies overlap."""
    if device.type != "cpu":
        return 2
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _block_bytes(block: Block) -> int:
    _, columns, rows = block
    return sum(column.nbytes for column in columns) + int(rows.nbytes)


def _ignore(seconds: float) -> None:
    """Seconds that nobody counts."""
