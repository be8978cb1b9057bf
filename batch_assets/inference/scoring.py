"""Rows in, scores and embeddings out, as a stream of record batches.

Bit for bit the same result for the same rows in the same order, on the same kind of device:
however the input is cut, the network always sees batches of ``batch_rows`` rows, and the tail
padded to a multiple of 256 rows, shapes between which fp32 results do not differ.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from batch_assets.errors import BatchAssetsError
from batch_assets.inference.batches import feature_matrix, recut
from batch_assets.inference.devices import resolve_device

ROW_STEP = 256
OUTPUT_ROWS = 65_536
SCORE = "score"
VECTOR = "vector"


class Scorer:
    """One model on one device; load it once, then score any number of partitions.

    ``network`` maps float32 [n, features] to probabilities [n] and embeddings [n, size], rows
    independent of each other. ``features`` names its input columns in order. ``batch_rows`` rows
    are computed at once (a multiple of 256; on CPUs 1,024 to 4,096 are fastest). ``precision``
    is ``fp32``, the only one so far.

    Example:
        >>> network = TabularNetwork.from_tensors(model.tensors)
        >>> scorer = Scorer(network, model.features)
        >>> for batch in scorer.score(reader, passthrough=["transaction_id"]):
        ...     writer.write_batch(batch)
    """

    def __init__(
        self,
        network: nn.Module,
        features: Sequence[str],
        *,
        device: str = "auto",
        precision: str = "fp32",
        batch_rows: int = 2048,
    ) -> None:
        if precision != "fp32":
            raise BatchAssetsError(f"Precision {precision!r} is not supported. Use 'fp32'.")
        if batch_rows < ROW_STEP or batch_rows % ROW_STEP:
            raise BatchAssetsError(
                f"batch_rows is {batch_rows}: it must be a multiple of {ROW_STEP}, at least that."
            )
        self.features = tuple(features)
        self.device, self.device_note = resolve_device(device)
        self.precision = precision
        self.batch_rows = batch_rows
        self._network = network.to(self.device).eval()
        self.embedding_size = self._probe()
        # Output batches hold whole compute batches, so that only the last one has a tail.
        self._output_rows = max(batch_rows, OUTPUT_ROWS - OUTPUT_ROWS % batch_rows)

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
        self, batches: Iterable[pa.RecordBatch], passthrough: Sequence[str] = ()
    ) -> Iterator[pa.RecordBatch]:
        """Yield, row by row of the input, the columns passed through, ``score`` and ``vector``.

        ``score`` is float32, ``vector`` a fixed-size list of float32. Batches out hold up to
        65,536 rows, however the input is cut; memory stays constant. No rows give no batch. A
        null in a feature reaches the network as NaN. Raises BatchAssetsError when a column is
        missing or a feature is not a number.
        """
        for block in recut(batches, self._output_rows):
            schema = self.output_schema(block.schema, passthrough)
            scores, vectors = self.score_matrix(feature_matrix(block, self.features))
            columns = [block.column(name) for name in passthrough]
            columns.append(pa.array(scores))
            columns.append(
                pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
            )
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

    def score_matrix(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores float32 [n] and embeddings float32 [n, size] of rows, float32 [n, features]."""
        count = len(rows)
        scores = np.empty(count, dtype=np.float32)
        vectors = np.empty((count, self.embedding_size), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, count, self.batch_rows):
                part = slice(start, min(start + self.batch_rows, count))
                score, vector = self._network(self._padded(rows[part]))
                used = part.stop - start
                torch.from_numpy(scores[part]).copy_(score[:used])
                torch.from_numpy(vectors[part]).copy_(vector[:used])
        return scores, vectors

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

    def _padded(self, rows: np.ndarray) -> torch.Tensor:
        """Rows on the device, filled up with zero rows to a multiple of 256."""
        missing = -len(rows) % ROW_STEP
        if missing:
            rows = np.concatenate([rows, np.zeros((missing, rows.shape[1]), dtype=rows.dtype)])
        return torch.from_numpy(rows).to(self.device)
