"""Results that are known already, found by the content of the rows that they were computed from.

A row's key is 128 bits made of its bytes and of a salt, which says what computed the result: the
model's version, the device, the precision. Equal keys mean equal results, bit for bit.
"""

import hashlib
from typing import Protocol

import numpy as np

# uint64 [n, 2], 128 bits a row.
Keys = np.ndarray

# Rows that are mixed at once: they and their state stay in a core's second-level cache.
_ROWS = 8_192
# Features that are brought into one piece of memory before they are mixed: a cache line.
_FEATURES = 16
# Odd multipliers of David Stafford's mix13, a better finalizer for MurmurHash3, and one of
# Pelle Evensen's.
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_THIRD = np.uint64(0xD6E8FEB86659FD93)


class Known(Protocol):
    """Where results are looked up before they are computed, and kept when they were."""

    def find(self, keys: Keys) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which are known, bool [n], and of those k, in the order of ``keys``, their scores,
        float32 [k], and vectors, float32 [k, size]; with k = 0 the size may be 0."""
        ...

    def keep(self, keys: Keys, scores: np.ndarray, vectors: np.ndarray) -> None:
        """Results that were computed: scores float32 [n] and vectors float32 [n, size]."""
        ...


class FirstOf:
    """Several places, looked into one after the other; what is computed is kept in all."""

    def __init__(self, *places: Known) -> None:
        self._places = places

    def find(self, keys: Keys) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See :class:`Known`."""
        at = np.arange(len(keys))
        found: list[np.ndarray] = []
        scores: list[np.ndarray] = []
        vectors: list[np.ndarray] = []
        for place in self._places:
            known, its_scores, its_vectors = place.find(keys[at])
            if known.any():
                found.append(at[known])
                scores.append(its_scores)
                vectors.append(its_vectors)
            at = at[~known]
        mask = np.zeros(len(keys), dtype=bool)
        if not found:
            return mask, np.empty(0, np.float32), np.empty((0, 0), np.float32)
        where = np.concatenate(found)
        mask[where] = True
        order = np.argsort(where)
        return mask, np.concatenate(scores)[order], np.concatenate(vectors)[order]

    def keep(self, keys: Keys, scores: np.ndarray, vectors: np.ndarray) -> None:
        """See :class:`Known`."""
        for place in self._places:
            place.keep(keys, scores, vectors)


def row_keys(rows: np.ndarray, salt: str) -> Keys:
    """The key of each row of float32 [n, features], as uint64 [n, 2].

    A key depends on the row's bytes, their order, how many features there are, and the salt; not
    on the rows around it. Bytes decide: 0.0 and -0.0 have different keys, and so have NaNs of
    different bits, which costs a computation and never gives a wrong result. Another salt gives
    unrelated keys. Made for content that nobody crafted: it is no cryptographic hash.

    Two features, 64 bits, at a time go through a keyed one-to-one mix and from there into two
    lanes that take them up in different ways. All is done a column at a time over thousands of
    rows, which leaves the interpreter free for other threads: 25 million rows of 15 features a
    second and core, where a library's hash called row by row (XXH3) did 5 million.
    """
    count, features = rows.shape
    keys = np.empty((count, 2), dtype=np.uint64)
    if rows.dtype != np.float32:
        raise TypeError(f"rows to hash are {rows.dtype}, and have to be float32")
    secrets = _secrets(salt, features)
    for start in range(0, count, _ROWS):
        block = rows[start : start + _ROWS].view(np.uint32)
        _mix(block, secrets, keys[start : start + _ROWS])
    return keys


def first_of_each(keys: Keys) -> tuple[np.ndarray, np.ndarray]:
    """Rows that have to be computed when rows of equal keys are computed once.

    Returns the positions of the first row of each key, int64 [m] and increasing, and for each row
    which of those it equals, int64 [n]: ``results[positions_of]`` of the m results are all n.
    """
    first_halves = np.sort(keys[:, 0])
    if not (first_halves[1:] == first_halves[:-1]).any():  # the usual case, which is quick
        return np.arange(len(keys)), np.arange(len(keys))
    order = np.argsort(keys[:, 0], kind="stable")
    ordered = keys[order]
    # Different keys with an equal first half may take turns; then some are computed twice.
    starts = np.concatenate([[True], (ordered[1:] != ordered[:-1]).any(axis=1)])
    group = np.cumsum(starts) - 1
    first = order[starts]
    by_position = np.argsort(first)
    rank = np.empty_like(by_position)
    rank[by_position] = np.arange(len(first))
    same_as = np.empty(len(keys), dtype=np.int64)
    same_as[order] = rank[group]
    return first[by_position], same_as


def _secrets(salt: str, features: int) -> np.ndarray:
    """A secret for each two features, and the two states to begin with, uint64."""
    count = (features + 1) // 2 + 2
    digest = hashlib.shake_128(f"{features} {salt}".encode()).digest(8 * count)
    return np.frombuffer(digest, dtype="<u8").astype(np.uint64)


def _mix(block: np.ndarray, secrets: np.ndarray, keys: Keys) -> None:
    """Keys of uint32 [n, features] into ``keys``."""
    count, features = block.shape
    piece = np.zeros((count, _FEATURES), dtype=np.uint32)
    words = piece.view(np.uint64).T
    word, spare, one, two = (np.empty(count, dtype=np.uint64) for _ in range(4))
    one.fill(secrets[-1])
    two.fill(secrets[-2])
    for start in range(0, features, _FEATURES):
        width = min(_FEATURES, features - start)
        piece[:, :width] = block[:, start : start + width]
        piece[:, width : width + width % 2] = 0
        for pair in range((width + 1) // 2):
            np.bitwise_xor(words[pair], secrets[start // 2 + pair], out=word)
            word *= _FIRST
            _fold(word, 32, spare)
            one ^= word
            one *= _SECOND
            _fold(one, 29, spare)
            two += word
            two *= _THIRD
            _fold(two, 32, spare)
    for lane, state in enumerate((one, two)):
        _fold(state, 30, spare)
        state *= _FIRST
        _fold(state, 27, spare)
        state *= _SECOND
        _fold(state, 31, spare)
        keys[:, lane] = state


def _fold(state: np.ndarray, bits: int, spare: np.ndarray) -> None:
    """Let the high bits into the low ones."""
    np.right_shift(state, np.uint64(bits), out=spare)
    state ^= spare
