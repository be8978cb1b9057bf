"""How many steps to compute at once, for each class of lengths: found by measuring."""

import threading
from collections.abc import Callable

from batch_assets.errors import BatchAssetsError
from batch_assets.inference.sequences.lengths import length_class, row_step, rows_within
from batch_assets.inference.sizing import ROW_STEP, BatchSizer, Learned
from batch_assets.inference.tuning import Tuning

START_STEPS = 4096
LARGEST_STEPS = 2**20
# Bytes of the input that a batch may have.
BATCH_BYTES = 64 * 2**20


class Budgets:
    """A :class:`BatchSizer` for each class of lengths, counting steps where that one says rows.

    A step of a long sequence costs more time and memory than one of a short sequence, as each
    looks at all others. Safe to be used by several threads.

    Args:
        features: numbers in a step.
        fixed: a budget that is used as it is, in steps; None measures.
        tuning: where what was learned is read and kept.
        names: device and precision, under which it is kept.
        memory: gives the bytes that the device may use: sizes failed with no more than that.
    """

    def __init__(
        self,
        features: int,
        fixed: int | None,
        tuning: Tuning | None,
        names: tuple[str, str],
        memory: Callable[[], int],
    ) -> None:
        self._fixed = fixed
        self._tuning = tuning if fixed is None else None
        self._names = names
        self._memory = memory
        room = max(ROW_STEP, min(LARGEST_STEPS, BATCH_BYTES // (4 * features)))
        self._largest = 1 << (room.bit_length() - 1)
        self._sizers: dict[int, BatchSizer] = {}
        self._kept: dict[int, Learned] = {}
        self._lock = threading.Lock()

    def ask(self, length: int) -> tuple[int, int]:
        """Steps and sequences for the next batch of this padded length."""
        steps = self._sizer(length).next_rows()
        return steps, rows_within(steps, length)

    def allowed(self, length: int, rows: int) -> int:
        """Of so many sequences, those that may be computed at once by what is known now."""
        learned = self._sizer(length).learned
        if learned.too_large is None or rows * length < learned.too_large:
            return rows
        return min(rows, rows_within(learned.rows, length))

    def executed(self, length: int, rows: int, asked: int, seconds: float) -> None:
        """A batch that was asked for and had all its sequences took so long.

        Seconds are counted as if it had used its budget to the last step.
        """
        self._sizer(length).executed(asked, seconds * asked / (rows * length))
        self._keep(length_class(length))

    def failed(self, length: int, rows: int) -> int:
        """So many sequences did not fit into memory; returns how many to try instead.

        Raises BatchAssetsError when there is no smaller batch.
        """
        if rows <= row_step(length):
            raise BatchAssetsError(
                f"Not even {rows} sequences of {length} steps fit into the device's memory. "
                "Free memory there, choose another device, or cut the sequences shorter."
            )
        sizer = self._sizer(length)
        sizer.failed(rows * length)
        self._keep(length_class(length))
        return min(rows_within(rows * length // 2, length), self.allowed(length, rows))

    @property
    def steps(self) -> dict[int, int]:
        """Steps a batch for each class of lengths that was met, as far as they settled."""
        with self._lock:
            return {each: sizer.learned.rows for each, sizer in sorted(self._sizers.items())}

    @property
    def settled(self) -> bool:
        """Whether nothing is left to be measured, for the lengths that were met."""
        with self._lock:
            return all(sizer.settled for sizer in self._sizers.values())

    def _sizer(self, length: int) -> BatchSizer:
        lengths = length_class(length)
        with self._lock:
            if lengths not in self._sizers:
                self._sizers[lengths] = BatchSizer(*self._start(lengths))
            return self._sizers[lengths]

    def _start(self, lengths: int) -> tuple[int, Learned]:
        """The most steps of a batch, and those to begin with."""
        if self._fixed is not None:
            return self._fixed, Learned(self._fixed, settled=True)
        largest = max(self._largest, 2 * lengths)
        known = self._tuning and self._tuning.read(*self._names, _shape(lengths), self._memory())
        if known:
            self._kept[lengths] = known
        return largest, known or Learned(max(START_STEPS, lengths))

    def _keep(self, lengths: int) -> None:
        """Keep what is new; while it is still measuring, that is a handful of times."""
        if self._tuning is None:
            return
        with self._lock:
            learned = self._sizers[lengths].learned
            if learned == self._kept.get(lengths):
                return
            self._kept[lengths] = learned
        self._tuning.keep(learned, *self._names, _shape(lengths), self._memory())


def _shape(lengths: int) -> str:
    return f"steps of sequences up to {lengths}"
