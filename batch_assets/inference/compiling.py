"""``torch.compile``, where it pays."""

import logging
import shutil
import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from batch_assets.errors import BatchAssetsError
from batch_assets.inference.compute import Network
from batch_assets.inference.plan import ComputePlan
from batch_assets.inference.precision import modes, one_thread, seconds_of
from batch_assets.inference.sizing import ROW_STEP

logger = logging.getLogger(__name__)
# What compiling a network takes, imports of the compiler included, and what share of the time it
# saves at most: only for work in which that can pay is it tried (measured: docs/architecture.md).
USUAL_SECONDS = 20.0
MOST_SAVED = 0.3
# What it saves must be worth it, as each later process compiles again.
WORTH = 4.0
LARGEST_ROWS = 4096


@dataclass(frozen=True)
class Costs:
    """Seconds that compiling took, and seconds a row without and with it."""

    compiling: float
    eager: float
    compiled: float

    def pays(self, rows: float) -> bool:
        """Whether over so many rows, each thread its own, it saves four times what it takes."""
        return (self.eager - self.compiled) * rows >= WORTH * self.compiling


def can_compile(device: torch.device) -> bool:
    """Whether this machine has the C++ compiler that it takes."""
    return device.type in ("cpu", "cuda") and any(map(shutil.which, ("g++", "clang++")))


def compiled_network(
    network: nn.Module, device: torch.device, half: bool, shape: tuple[int, int]
) -> Network:
    """The network compiled for batches of exactly this shape, (rows, features).

    Raises BatchAssetsError when it cannot be compiled on this machine.
    """
    if not can_compile(device):
        raise BatchAssetsError(
            "This version of the model is computed as torch.compile makes it, which takes a C++ "
            f"compiler, and {device} of this machine has none. Install g++."
        )
    # The whole of it or an error: no part that runs as it is without saying so.
    compiled: Network = torch.compile(network, dynamic=False, fullgraph=True)
    try:
        with one_thread(), modes(device, half):
            compiled(torch.zeros(shape, device=device))
    except Exception as error:
        raise BatchAssetsError(
            f"torch.compile failed on this network: {type(error).__name__}: {error}"
        ) from error
    return compiled


def consider_compiling(
    network: nn.Module,
    device: torch.device,
    plan: ComputePlan,
    rows: np.ndarray,
    expected: float,
    bound: float,
) -> ComputePlan:
    """The plan, compiled and pinned to its fastest size if that pays over ``expected`` rows.

    Args:
        rows: a sample, float32 [n, features].
        expected: rows that one thread will compute.
        bound: the most by which it may move a score.
    """
    if not expected or not can_compile(device):
        return plan
    size = plan.batch_rows or min(1024, plan.largest)
    eager = seconds_of(network, device, plan.half, _sample(rows, size, device)) / size
    if expected * eager * MOST_SAVED < WORTH * USUAL_SECONDS:
        return plan
    size, eager = _fastest(network, device, plan, rows)
    sample = _sample(rows, size, device)
    started = time.perf_counter()
    try:
        compiled = compiled_network(network, device, plan.half, (size, rows.shape[1]))
    except BatchAssetsError as error:
        logger.warning("scoring goes on without it: %s", error)
        return plan
    took = time.perf_counter() - started
    seconds = seconds_of(compiled, device, plan.half, sample) / size
    costs = Costs(took, eager, seconds)
    with one_thread(), modes(device, plan.half):
        moved = (compiled(sample)[0] - network(sample)[0]).abs().max().item()
    logger.info("%s: scores move by %s", costs, moved)
    if not (moved <= bound and costs.pays(expected)):
        return plan
    return replace(plan, compiled=True, batch_rows=size, largest=size)


def _fastest(
    network: nn.Module, device: torch.device, plan: ComputePlan, rows: np.ndarray
) -> tuple[int, float]:
    """The size at which a row takes least without compiling, and its seconds there."""
    if plan.batch_rows:
        sizes = [plan.batch_rows]
    else:
        sizes = [ROW_STEP * 2**power for power in range(5)]
        sizes = [size for size in sizes if size <= min(plan.largest, LARGEST_ROWS)]
    seconds = {
        size: seconds_of(network, device, plan.half, _sample(rows, size, device)) / size
        for size in sizes
    }
    size = min(seconds, key=lambda one: seconds[one])
    return size, seconds[size]


def _sample(rows: np.ndarray, size: int, device: torch.device) -> Tensor:
    return torch.from_numpy(np.resize(rows, (size, rows.shape[1]))).to(device)
