"""64-bit hashes of keys and entities: the same for a column, for one value, and in any process."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batch_assets.errors import BatchAssetsError

Hashes = npt.NDArray[np.uint64]
WORD = 8
_START, _MULTIPLIER, _LAST = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93, 0xFF51AFD7ED558CCD
_MASK = (1 << 64) - 1
# Bits of a word that count when only its first 0 to 8 bytes belong to the text.
_KEPT = np.array([(1 << (8 * n)) - 1 for n in range(WORD + 1)], np.uint64)


def hash_of(value: str | int) -> int:
    """The hash of one text or integer."""
    if isinstance(value, str):
        data = value.encode("utf-8", "surrogatepass")
        state = _START ^ len(data)
        for at in range(0, len(data), WORD):
            state = _mixed(state, int.from_bytes(data[at : at + WORD], "little"))
    else:
        state = _mixed(_START ^ WORD, value & _MASK)
    state = (state * _LAST) & _MASK
    return state ^ (state >> 33)


def hashes_of(column: pa.Array) -> Hashes:
    """The hashes of a column of texts or integers without nulls, uint64 [rows].

    Raises:
        BatchAssetsError: a column of another type, or with nulls.
    """
    if column.null_count:
        raise BatchAssetsError(f"{column.null_count} rows have no value in a column of keys")
    if pa.types.is_integer(column.type):
        words = column.cast(pa.int64(), safe=False).to_numpy().view(np.uint64)
        return _finished(_mixed_all(np.full(len(words), _START ^ WORD, np.uint64), words))
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return _of_texts(column.cast(pa.large_string()))
    raise BatchAssetsError(f"keys are texts or integers, not {column.type}")


def _of_texts(column: Any) -> Hashes:
    _, offsets_buffer, data = column.buffers()
    all_offsets = np.frombuffer(offsets_buffer, np.int64)
    offsets = all_offsets[column.offset : column.offset + len(column) + 1]
    starts, lengths = offsets[:-1], np.diff(offsets)
    low, high = (int(offsets[0]), int(offsets[-1])) if len(offsets) else (0, 0)
    raw = np.zeros(high - low + WORD, np.uint8)  # so that the last word may be read whole
    if high > low:
        raw[: high - low] = np.frombuffer(data, np.uint8)[low:high]
    words = np.ndarray((high - low + 1,), "<u8", raw, strides=(1,))
    state = np.uint64(_START) ^ lengths.astype(np.uint64)
    for at in range(0, int(lengths.max(initial=0)), WORD):
        which = np.flatnonzero(lengths > at)
        left = np.minimum(lengths[which] - at, WORD)
        word = words[starts[which] - low + at] & _KEPT[left]
        state[which] = _mixed_all(state[which], word)
    return _finished(state)


def _mixed(state: int, word: int) -> int:
    state = ((state ^ word) * _MULTIPLIER) & _MASK
    return state ^ (state >> 32)


def _mixed_all(state: Hashes, words: Hashes) -> Hashes:
    state = (state ^ words) * np.uint64(_MULTIPLIER)
    return state ^ (state >> np.uint64(32))


def _finished(state: Hashes) -> Hashes:
    state = state * np.uint64(_LAST)
    return state ^ (state >> np.uint64(33))
