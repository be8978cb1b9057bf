"""To which length a sequence is padded, and how many go into a batch.

Both are fixed by the length and the budget alone, never by what else is scored: a sequence is
always computed at the same padded length, in batches that are a multiple of 256 steps. Between
such shapes fp32 results on a CPU do not differ, for a network that treats steps alike.
"""

import math

import numpy as np

from batch_assets.inference.sizing import ROW_STEP

# Padded lengths are multiples of this; from 64 steps on there are eight for each doubling, so that
# a sequence grows by less than an eighth.
SMALLEST_STEP = 4
SMALLEST_CLASS = 16


def length_class(length: int) -> int:
    """Lengths of like cost: the power of two that is not less, at least 16."""
    return max(SMALLEST_CLASS, 1 << max(length - 1, 0).bit_length())


def padded_length(length: int) -> int:
    """The length to which a sequence of so many steps is padded, at least 4."""
    step = max(SMALLEST_STEP, length_class(length) // 16)
    return max(step, length + -length % step)


def padded_lengths(lengths: np.ndarray) -> np.ndarray:
    """``padded_length`` of each, int64 [n]."""
    distinct, where = np.unique(lengths, return_inverse=True)
    padded = np.array([padded_length(int(length)) for length in distinct], dtype=np.int64)
    return padded[where]


def row_step(length: int) -> int:
    """The fewest sequences of this padded length that are a multiple of 256 steps."""
    return ROW_STEP // math.gcd(length, ROW_STEP)


def rows_within(budget: int, length: int) -> int:
    """Sequences of this padded length in a batch of at most ``budget`` steps, padding included.

    A multiple of ``row_step``, and at least that, even where it is beyond the budget.
    """
    step = row_step(length)
    return max(step, budget // length // step * step)
