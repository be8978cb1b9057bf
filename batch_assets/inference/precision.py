"""Whether half precision pays on a device, and what it does to the scores."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

PRECISIONS = ("fp32", "bf16", "auto")
# The most by which bf16 may move a score, a probability, for `auto` to choose it.
BOUND = 0.002
# It must be faster by this much.
GAIN = 1.1
SAMPLE_ROWS = 2048
ROUNDS = 9


@contextmanager
def modes(device: torch.device, half: bool) -> Iterator[None]:
    """Inference, with matrix products in bf16 if ``half``; the rest stays float32."""
    with (
        torch.inference_mode(),
        torch.autocast(device.type, dtype=torch.bfloat16, enabled=half),
    ):
        yield


def choose_precision(
    network: nn.Module, device: torch.device, rows: np.ndarray, bound: float = BOUND
) -> str:
    """``bf16`` if, on a sample of these rows, it is faster and moves no score by more than bound.

    Otherwise, or with fewer than 2,048 rows (float32 [n, features]) to tell by, ``fp32``. The
    outcome depends on time: where the same bits matter, it is kept and used again.
    """
    if len(rows) < SAMPLE_ROWS:
        return "fp32"
    picked = np.linspace(0, len(rows) - 1, SAMPLE_ROWS).astype(int)
    sample = torch.from_numpy(rows[picked]).to(device)
    with one_thread():
        moved = _scores(network, device, sample, True) - _scores(network, device, sample, False)
        # Not "> bound": scores that are not numbers are out of any bound.
        if not float(moved.abs().max()) <= bound:
            return "fp32"
        seconds: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(ROUNDS):
            for half, times in seconds.items():
                times.append(_seconds(network, device, half, sample))
    faster = statistics.median(seconds[False]) >= GAIN * statistics.median(seconds[True])
    return "bf16" if faster else "fp32"


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch's operations in this thread run in it alone, as in all threads that compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def seconds_of(
    network: Callable[[Tensor], tuple[Tensor, Tensor]],
    device: torch.device,
    half: bool,
    sample: Tensor,
) -> float:
    """Seconds that one thread takes for a batch, float32 [n, features] on the device: a median."""
    with one_thread():
        return statistics.median(_seconds(network, device, half, sample) for _ in range(ROUNDS))


def _seconds(
    network: Callable[[Tensor], tuple[Tensor, Tensor]],
    device: torch.device,
    half: bool,
    sample: Tensor,
) -> float:
    """Seconds of one batch; on a CPU its CPU time, which a busy machine does not distort."""
    clock = time.thread_time if device.type == "cpu" else time.perf_counter
    started = clock()
    _scores(network, device, sample, half)
    return clock() - started


def _scores(
    network: Callable[[Tensor], tuple[Tensor, Tensor]],
    device: torch.device,
    sample: Tensor,
    half: bool,
) -> Tensor:
    """Scores [n] on the CPU, so that the device is done."""
    with modes(device, half):
        scores: Tensor = network(sample)[0]
        return scores.float().cpu()
