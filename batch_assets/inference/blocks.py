"""What goes from stage to stage while rows are scored."""

from collections.abc import Generator, Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from batch_assets.errors import BatchAssetsError
from batch_assets.inference.known import Keys
from batch_assets.inference.plan import ComputePlan
from batch_assets.inference.stats import EngineStats

MOST_NAMED = 5


class NotFinite(BatchAssetsError):
    """A model gave a score or a vector that is no finite number."""


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

    @property
    def names(self) -> pa.Array | None:
        """What the rows are called: the first column before the results."""
        return self.before[0] if self.before else None

    def with_results(self, scores: np.ndarray, vectors: np.ndarray) -> pa.RecordBatch:
        """The output: results, float32 [rows] and [rows, size], as they are in memory."""
        vector = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        arrays = [*self.before, pa.array(scores), vector, *self.after]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


def check_finite(
    model: str, scores: np.ndarray, vectors: np.ndarray, names: pa.Array | None = None
) -> None:
    """Raise NotFinite, naming model and rows, unless all scores and vectors are finite numbers.

    Args:
        model: its version.
        scores: float32 [n].
        vectors: float32 [n, size].
        names: what each row is called, [n]; None if they have no names.
    """
    with np.errstate(all="ignore"):
        if np.isfinite(scores.sum()) and np.isfinite(vectors.sum()):
            return  # a sum with a NaN or an infinity is none; the other way round is not sure
    wrong = np.flatnonzero(~(np.isfinite(scores) & np.isfinite(vectors).all(1)))
    if not len(wrong):
        return
    called = names.take(pa.array(wrong[:MOST_NAMED])).to_pylist() if names is not None else wrong
    more = ", ..." if len(wrong) > MOST_NAMED else ""
    rows = f"{len(wrong):,} of {len(scores):,} rows"
    raise NotFinite(
        f"Model {model or 'without a version'} gives no finite score or vector for {rows} "
        f"({', '.join(map(str, called[:MOST_NAMED]))}{more}), and nothing of them is kept. Check "
        "its weights, the scaling in its card, and the features of these rows, or make another "
        "version live."
    )


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
