"""Rows in, scores and embeddings out, as a stream of record batches.

Bit for bit the same result for the same rows, on the same kind of device, however the input is
cut: all is computed by one plan, in batches between whose sizes results do not differ, or of one
size, the tail padded.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing

import numpy as np
import pyarrow as pa
from torch import nn

from batch_assets.errors import BatchAssetsError
from batch_assets.inference.batches import column_of, feature_matrix, recut
from batch_assets.inference.blocks import Block, as_binary, check_finite, counted
from batch_assets.inference.compute import Compute, Job
from batch_assets.inference.devices import resolve_device, usual_threads
from batch_assets.inference.known import Known, first_of_each, row_keys
from batch_assets.inference.plan import ComputePlan
from batch_assets.inference.planned import PlannedNetwork, Results
from batch_assets.inference.precision import BOUND, PRECISIONS
from batch_assets.inference.sizing import ROW_STEP
from batch_assets.inference.stages import ahead, given_out, timed
from batch_assets.inference.stats import EngineStats
from batch_assets.inference.tuning import Tuning

OUTPUT_ROWS = 65_536
# Bytes that wait between two stages.
QUEUED_BYTES = 8 * 2**20
QUEUED_BLOCKS = 8
SCORE = "score"
VECTOR = "vector"
INPUT_HASH = "input_hash"


class Scorer:
    """One model on one device; load it once, then score any number of partitions.

    Args:
        network: maps float32 [n, features] to probabilities [n] and embeddings [n, size], rows
            independent of each other; must not change its input.
        features: names of its input columns, in order.
        device: see :func:`batch_assets.inference.devices.resolve_device`.
        precision: ``fp32``, ``bf16`` (matrix products only), or ``auto``: the faster one, if on
            the first rows scores move by at most ``bound``. The attribute of the same name says
            what is used, and ``auto`` until the first rows came.
        batch_rows: rows computed at once, a multiple of 256; None chooses while scoring.
        threads: threads that compute, each a batch of its own; None chooses.
        tuning: where the plan and the sizes chosen are kept for the next run; None keeps them
            for as long as the scorer lives.
        version: of the model; see ``salt``.
        column: name of one column that holds all features, a fixed-size list of float32, which
            is used as it is in memory; None if each feature has its own column.

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
        version: str = "",
        column: str | None = None,
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
        self.threads = threads or usual_threads(self.device)
        self._precision = precision
        self._column = column
        self._version = version or (tuning.model if tuning else "")
        self.network = network.to(self.device).eval()
        self._model = PlannedNetwork(
            self.network,
            self.device,
            features=len(self.features),
            version=self._version,
            precision=precision,
            bound=bound,
            batch_rows=batch_rows,
            output_rows=OUTPUT_ROWS,
            threads=self.threads,
            tuning=tuning,
        )
        self.embedding_size = self._model.size

    @property
    def precision(self) -> str:
        """The precision that is used; as it was asked for until that is chosen."""
        plan = self._model.plan
        return plan.precision if plan else self._precision

    @property
    def salt(self) -> str:
        """Results of the same rows and salt have the same bits: model version, kind of device,
        precision, compiled or not, and rows of a batch, or ``any`` where they do not matter.

        Raises BatchAssetsError with ``auto`` precision before the first rows ever of this model
        version; ``prepare`` shows them.
        """
        return self._model.salt(self._model.prepare(None))

    def is_current(self) -> bool:
        """Whether ``salt`` would be the same of a scorer that was loaded now."""
        return self._model.is_current()

    def prepare(self, batch: pa.RecordBatch, rows_expected: int = 0) -> ComputePlan:
        """Choose how this model is computed, if that was never done, on these rows.

        ``rows_expected`` is how many there will be: when they are very many, and only before the
        first plan, ``torch.compile`` is tried and used from then on if it pays.
        """
        return self._model.prepare(
            feature_matrix(batch, self.features, self._column), rows_expected
        )

    def output_schema(
        self, schema: pa.Schema, passthrough: Sequence[str] = (), hashes: bool = False
    ) -> pa.Schema:
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
        fields += [pa.field(SCORE, pa.float32()), pa.field(VECTOR, vector)]
        return pa.schema([*fields, *([pa.field(INPUT_HASH, pa.binary(16))] if hashes else [])])

    def score(
        self,
        batches: Iterable[pa.RecordBatch],
        passthrough: Sequence[str] = (),
        stats: EngineStats | None = None,
        known: Known | None = None,
        hashes: bool = False,
        rows_expected: int = 0,
    ) -> Generator[pa.RecordBatch, None, None]:
        """Yield, row by row of the input, the columns passed through, ``score`` and ``vector``.

        ``score`` is float32, ``vector`` a fixed-size list of float32. Batches out hold up to
        65,536 rows, however the input is cut; no rows give no batch. A null in a feature reaches
        the network as NaN.

        Reading ``batches`` (in a thread of its own), computing, and what the consumer does with
        the results overlap; memory stays constant. Close the iterator, or exhaust it, to end the
        threads. ``stats`` is added to, and complete at the end. Raises BatchAssetsError when a
        column is missing or a feature is not a number, NotFinite, naming the rows by the first
        column passed through, when a result is not a finite number, PlanChanged when earlier
        results must not be mixed with those to come, and what ``batches`` raises.

        Args:
            known: results that are not computed again; those that are, are kept there.
            hashes: add ``input_hash``, binary(16), the key of the row under ``salt``.
            rows_expected: see ``prepare``.
        """
        stats = EngineStats() if stats is None else stats
        read = ahead(
            timed(
                self._blocks(
                    counted(batches, stats), passthrough, known is not None, hashes, rows_expected
                ),
                stats.reading,
            ),
            # Few blocks, too: with a slow network, what waits delays the end of a stream.
            size=lambda block: max(block.nbytes, QUEUED_BYTES // QUEUED_BLOCKS),
            limit=QUEUED_BYTES,
            blocked=lambda seconds: None,
        )
        results = ahead(
            self._results(read, known, stats),
            size=lambda batch: batch.nbytes,
            limit=QUEUED_BYTES,
            blocked=lambda seconds: None,
        )
        yield from given_out(results, stats, self.device)

    def score_matrix(self, rows: np.ndarray) -> Results:
        """Scores float32 [n] and embeddings float32 [n, size] of rows, float32 [n, features].

        The same bits as ``score`` gives; made for few rows, and quick for a single one. Raises
        NotFinite.
        """
        if not len(rows):
            return np.empty(0, np.float32), np.empty((0, self.embedding_size), np.float32)
        plan = self._model.prepare(rows)
        if len(rows) <= ROW_STEP:
            results = self._model.run_few(rows, plan)
        else:
            with self._model.compute() as compute:
                job = self._model.start(compute, rows, plan)
                results = self._model.finish(compute, job, plan, EngineStats())
        check_finite(self._version, *results)
        return results

    def _blocks(
        self,
        batches: Iterable[pa.RecordBatch],
        passthrough: Sequence[str],
        keyed: bool,
        hashes: bool,
        rows_expected: int,
    ) -> Iterator[Block]:
        for parts in recut(batches, self._model.block_rows):
            schema = self.output_schema(parts[0].schema, passthrough, hashes)
            columns = [column_of(parts, name) for name in passthrough]
            rows = feature_matrix(parts, self.features, self._column)
            plan = self._model.prepare(rows, rows_expected)
            keys = row_keys(rows, self._model.salt(plan)) if keyed or hashes else None
            after = [as_binary(keys)] if hashes and keys is not None else []
            yield Block(schema, columns, after, rows, plan, keys)

    def _results(
        self, blocks: Generator[Block, None, None], known: Known | None, stats: EngineStats
    ) -> Iterator[pa.RecordBatch]:
        stats.device, stats.threads = str(self.device), self.threads
        with closing(blocks), self._model.compute() as compute:
            if known is not None:
                for block in blocks:
                    yield block.with_results(*self._completed(compute, block, known, stats))
                return

            def finished(block: Block, job: Job) -> pa.RecordBatch:
                results = self._model.finish(compute, job, block.plan, stats)
                check_finite(self._version, *results, block.names)
                return block.with_results(*results)

            # One block ahead, so that no thread waits for the last batch of another.
            begun: tuple[Block, Job] | None = None
            for block in blocks:
                job = self._model.start(compute, block.rows, block.plan)
                if begun is not None:
                    yield finished(*begun)
                begun = block, job
            if begun is not None:
                yield finished(*begun)

    def _completed(
        self, compute: Compute, block: Block, known: Known, stats: EngineStats
    ) -> Results:
        """Results of a block; those that are not known are computed, equal rows once, and kept."""
        assert block.keys is not None
        stats.precision, stats.compiled = block.plan.precision, block.plan.compiled
        found, *old = known.find(block.keys)
        if found.all():
            stats.reused += len(found)
            return old[0], old[1]
        missing = np.flatnonzero(~found)
        first, same_as = first_of_each(block.keys[missing])
        stats.reused += len(found) - len(first)
        positions = missing[first]
        job = self._model.start(compute, block.rows[positions], block.plan)
        new = self._model.finish(compute, job, block.plan, stats)
        names = block.names.take(pa.array(positions)) if block.names is not None else None
        check_finite(self._version, *new, names)
        known.keep(block.keys[positions], *new)
        if len(positions) == len(found):
            return new
        results = (
            np.empty(len(found), np.float32),
            np.empty((len(found), self.embedding_size), np.float32),
        )
        for all_rows, were_known, computed in zip(results, old, new, strict=True):
            if len(were_known):
                all_rows[found] = were_known
            all_rows[missing] = computed[same_as]
        return results
