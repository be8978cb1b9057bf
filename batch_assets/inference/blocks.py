"""What goes from stage to stage while rows are scored."""

from collections.abc import Generator, Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from batch_assets.inference.known import Keys
from batch_assets.inference.plan import ComputePlan
from batch_assets.inference.stats import EngineStats


class Block(NamedTuple):
    """Some rows to score.

    Attributes:
        schema: of the output.
        before: columns that stand before the results.
        after: columns that stand behind them.
        rows: inputs, float32 [rows, features].
        plan: how they are computed.
        keys: what their results are known by, if that is asked.
    """

    schema: pa.Schema
    before: list[pa.Array]
    after: list[pa.Array]
    rows: np.ndarray
    plan: ComputePlan
    keys: Keys | None

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return sum(column.nbytes for column in self.before) + int(self.rows.nbytes)

    def with_results(self, scores: np.ndarray, vectors: np.ndarray) -> pa.RecordBatch:
        """The output: results, float32 [rows] and [rows, size], as they are in memory."""
        vector = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        arrays = [*self.before, pa.array(scores), vector, *self.after]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


def counted(
    batches: Iterable[pa.RecordBatch], stats: EngineStats
) -> Generator[pa.RecordBatch, None, None]:
    """The same batches; their bytes are added to ``stats.bytes_read``."""
    for batch in batches:
        stats.bytes_read += batch.nbytes
        yield batch


def as_binary(keys: Keys) -> pa.Array:
    """Keys, uint64 [n, 2], as 16 bytes each, without a copy."""
    return pa.Array.from_buffers(pa.binary(16), len(keys), [None, pa.py_buffer(keys)])
