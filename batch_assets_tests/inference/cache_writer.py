"""A process of its own that writes into an embedding cache.

Called with what to do, the folder, and a seed:

- ``work``: keep and find blocks of known content, of this seed and of others, and check each one;
- ``torn``: be killed by SIGKILL half way through writing a segment;
- ``forever``: keep blocks, and say so, until somebody ends it;
- ``full``: have a disk on which no file can pass 10,000 bytes, and score without the cache.
"""

import os
import resource
import signal
import sys
from itertools import count
from pathlib import Path

import numpy as np

from batch_assets.inference import segments
from batch_assets.inference.cache import EmbeddingCache
from batch_assets.inference.known import Keys, row_keys

ROWS, SIZE = 2_000, 8
LIMIT = 16 * 2**20


def block(seed: int) -> tuple[Keys, np.ndarray, np.ndarray]:
    """Keys, scores and vectors that follow from the seed."""
    rows = np.random.default_rng(seed).standard_normal((ROWS, SIZE), dtype=np.float32)
    return row_keys(rows, "salt"), rows.sum(axis=1), rows * 2


def check(cache: EmbeddingCache, seed: int) -> int:
    """How many rows of the block are known; they have to be the right ones."""
    keys, scores, vectors = block(seed)
    known, known_scores, known_vectors = cache.find(keys)
    assert np.array_equal(known_scores, scores[known])
    if known.any():
        assert np.array_equal(known_vectors, vectors[known])
    return int(known.sum())


def work(folder: Path, seed: int) -> None:
    with EmbeddingCache(folder, LIMIT, always=True) as cache:
        for step in range(20):
            check(cache, seed + step)
            cache.keep(*block(seed + step))
            assert check(cache, seed + step) == ROWS
            check(cache, (seed + 1_000 + step) % 3_000)


def torn(folder: Path, seed: int) -> None:
    def half(handle: int, content: "bytes | memoryview") -> None:
        os.write(handle, memoryview(content)[: len(content) // 2])
        if len(content) > 10_000:
            os.kill(os.getpid(), signal.SIGKILL)

    with EmbeddingCache(folder, LIMIT, always=True) as cache:
        cache.keep(*block(seed))
        segments._write = half


def forever(folder: Path, seed: int) -> None:
    with EmbeddingCache(folder, LIMIT, always=True) as cache:
        for number in count(seed):
            cache.keep(*block(number))
            print(number, flush=True)


def full(folder: Path, seed: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    with EmbeddingCache(folder, LIMIT, always=True) as cache:
        for step in range(20):
            check(cache, seed + step)
            cache.keep(*block(seed + step))


if __name__ == "__main__":
    what = {"work": work, "torn": torn, "forever": forever, "full": full}[sys.argv[1]]
    what(Path(sys.argv[2]), int(sys.argv[3]))
