"""Histories of random steps, the encoder over them, and batches of them in order of arrival."""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

FEATURES = 16
LONGEST = 512
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

Batch = tuple[np.ndarray, np.ndarray]


def encoder() -> Any:
    """The network; what its weights are does not matter for the speed."""
    import torch

    from batch_assets.inference.encoder import HistoryEncoder

    torch.manual_seed(0)
    return HistoryEncoder(FEATURES).eval()


def draw_lengths(rows: int) -> np.ndarray:
    """Heavy-tailed, as customers' histories are: half have up to 20 steps, one in 290 has 512."""
    drawn = np.exp(np.random.default_rng(1).normal(3.0, 1.2, rows))
    return drawn.clip(1, LONGEST).astype(int)


def histories(lengths: np.ndarray) -> list[np.ndarray]:
    """Each float32 [length, 16]."""
    values = np.random.default_rng(2).normal(size=(int(lengths.sum()), FEATURES))
    return np.split(values.astype(np.float32), np.cumsum(lengths)[:-1])


def padded(items: Sequence[np.ndarray]) -> Batch:
    """Steps, padded to the longest, and lengths."""
    lengths = np.array([len(item) for item in items])
    steps = np.zeros((len(items), lengths.max(), FEATURES), np.float32)
    for row, item in zip(steps, items, strict=True):
        row[len(row) - len(item) :] = item
    return steps, lengths


def compute(network: Any, batch: Batch) -> np.ndarray:
    """Vectors of a batch."""
    import torch

    with torch.inference_mode():
        vectors: np.ndarray = network(*map(torch.from_numpy, batch))[1].numpy()
        return vectors


def in_order_of_arrival(network: Any, items: Sequence[np.ndarray], size: int) -> int:
    """As many threads as cores, each the next ``size`` rows, padded to the longest of them."""
    starts, lock = iter(range(0, len(items), size)), threading.Lock()
    vectors = np.empty((len(items), 64), np.float32)

    def work() -> None:
        while True:
            with lock:
                start = next(starts, None)
            if start is None:
                return
            vectors[start : start + size] = compute(network, padded(items[start : start + size]))

    in_threads(work)
    return len(items)


def in_threads(work: Callable[[], Any], threads: int = THREADS) -> list[Any]:
    """What each of the threads gave; torch uses one thread in each."""
    import torch

    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return [done.result() for done in [pool.submit(work) for _ in range(threads)]]
