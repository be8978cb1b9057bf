"""Whether a row's result depends, in any bit, on how many rows are computed with it: measured."""

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from batch_assets.inference.compute import Network, is_out_of_memory
from batch_assets.inference.plan import ComputePlan
from batch_assets.inference.precision import modes, one_thread, seconds_of
from batch_assets.inference.sizing import GAIN, ROW_STEP

# Scores and vectors of rows, as the bits of float32 [n, 1 + size], on the host.
Run = Callable[[Tensor], np.ndarray]

SMALLEST = 32
# Sizes below this are compared on as many rows, unless these take long.
COMPARED_ROWS = 2048
# A batch that takes longer is the last that is compared: larger ones are not used.
LONG_SECONDS = 2.0


def plan_sizes(
    network: Network, device: torch.device, plan: ComputePlan, rows: np.ndarray, largest: int
) -> ComputePlan:
    """The plan with the sizes between which results have equal bits, or else with one size.

    Batches of 32 to ``largest`` rows, 256 times a power of two, are compared with batches of 256
    of the same rows, which so stand in other places of the batch. Where a size differs and is
    faster than all that agree, the plan is pinned to the fastest. ``rows``, float32 [n, features],
    n > 0, are repeated as often as needed.
    """
    sample = torch.from_numpy(np.resize(rows, (max(largest, COMPARED_ROWS), rows.shape[1])))

    def run(part: Tensor) -> np.ndarray:
        with modes(device, plan.half):
            scores, vectors = network(part.to(device))
            return torch.cat([scores.float()[:, None], vectors.float()], 1).cpu().numpy().view("u4")

    with one_thread():
        agreed, differing = _compared(run, sample, largest)
        candidates = [size for size in differing if _same_anywhere(run, sample[:size])]
        if candidates:
            seconds = {
                size: seconds_of(network, device, plan.half, sample[:size].to(device)) / size
                for size in (agreed, *candidates)
            }
            fastest = min(seconds, key=lambda size: seconds[size])
            if seconds[agreed] >= GAIN * seconds[fastest]:
                return replace(plan, batch_rows=fastest, largest=fastest)
        return replace(plan, smallest=_smallest(run, sample), largest=agreed)


def _compared(run: Run, sample: Tensor, largest: int) -> tuple[int, list[int]]:
    """The largest size up to which all agree, and those from the first that does not on."""
    clock = time.thread_time  # what else the machine does must not decide
    agreed, differing, size = ROW_STEP, list[int](), 2 * ROW_STEP
    expected = run(sample[:ROW_STEP])
    while size <= largest:
        started = clock()
        try:
            result = run(sample[:size])
        except (MemoryError, RuntimeError) as error:
            if is_out_of_memory(error):
                break
            raise
        took = clock() - started
        if not differing:
            more = _batches(run, sample[len(expected) : size], ROW_STEP)
            expected = np.concatenate([expected, more])
        if differing or not np.array_equal(result, expected):
            differing.append(size)
        else:
            agreed = size
        if took > LONG_SECONDS:
            break
        size *= 2
    return agreed, differing


def _smallest(run: Run, sample: Tensor) -> int:
    """The smallest size from which on all agree up to 256."""
    started = time.perf_counter()
    run(sample[:ROW_STEP])
    is_slow = COMPARED_ROWS // ROW_STEP * (time.perf_counter() - started) > LONG_SECONDS
    sample = sample[: ROW_STEP if is_slow else COMPARED_ROWS]
    expected, size = _batches(run, sample, ROW_STEP), ROW_STEP
    while size > SMALLEST and np.array_equal(_batches(run, sample, size // 2), expected):
        size //= 2
    return size


def _same_anywhere(run: Run, sample: Tensor) -> bool:
    """Whether rows have the same results in other places of a batch of this size."""
    shift = len(sample) // 2 + 1
    return np.array_equal(np.roll(run(sample), shift, axis=0), run(sample.roll(shift, 0)))


def _batches(run: Run, sample: Tensor, size: int) -> np.ndarray:
    return np.concatenate([run(part) for part in sample.split(size)])
