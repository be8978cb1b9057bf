"""Batches of sequences through a network, whatever the device's memory allows."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from batch_assets.errors import BatchAssetsError
from batch_assets.inference.compute import is_out_of_memory
from batch_assets.inference.precision import modes
from batch_assets.inference.sequences.budgets import Budgets
from batch_assets.inference.sequences.lengths import row_step
from batch_assets.inference.sequences.planning import Part

PROBED_LENGTH = 16


@dataclass(frozen=True)
class Prepared:
    """A batch that is ready to be computed.

    Attributes:
        steps: float32 [rows, length, features]; padding is zeros, and stands before the steps.
        lengths: int64 [rows].
        seconds: what preparing took.
    """

    part: Part
    steps: np.ndarray
    lengths: np.ndarray
    seconds: float


@dataclass(frozen=True)
class Done:
    """What computing a batch took: seconds by the clock, and tries that did not fit into memory."""

    part: Part
    seconds: float
    retries: int


def prepare(part: Part, features: int) -> Prepared:
    """Decode and pad. Raises BatchAssetsError when a sequence has not the shape it should."""
    started = time.perf_counter()
    steps = np.zeros((part.rows, part.length, features), dtype=np.float32)
    lengths = np.zeros(part.rows, dtype=np.int64)
    lengths[: len(part.picked)] = part.window.lengths[part.picked]
    for row, index in enumerate(part.picked):
        length = int(lengths[row])
        if not length:
            continue
        sequence = part.window.sequence(int(index))
        if sequence.shape != (length, features):
            raise BatchAssetsError(
                f"A sequence of {length} steps of {features} numbers was decoded to the shape "
                f"{sequence.shape}. Correct what decodes it, or the column of its length."
            )
        steps[row, part.length - length :] = sequence
    return Prepared(part, steps, lengths, time.perf_counter() - started)


def probe(network: nn.Module, features: int, device: torch.device) -> int:
    """The size of the network's embedding.

    Raises BatchAssetsError when the network does not take as many features.
    """
    rows = row_step(PROBED_LENGTH)
    try:
        with torch.inference_mode():
            steps = torch.zeros(rows, PROBED_LENGTH, features, device=device)
            return int(network(steps, torch.full((rows,), 1, device=device))[1].shape[1])
    except RuntimeError as error:
        raise BatchAssetsError(
            f"The network does not run on sequences of {features} features on {device}: {error}. "
            "Check that they are those that it was trained on."
        ) from error


class SequenceCompute:
    """One network on one device; threads may compute at once, with one torch thread each."""

    def __init__(
        self, network: nn.Module, device: torch.device, budgets: Budgets, *, half: bool
    ) -> None:
        self._network = network
        self._device = device
        self._budgets = budgets
        self._half = half
        # As for rows: CPU time does not count what other threads and processes take.
        self._clock = time.thread_time if device.type == "cpu" else time.perf_counter

    def run(self, prepared: Prepared) -> Done:
        """Compute a batch and put its results into its window.

        What does not fit into memory is computed in smaller batches, down to 256 steps or one
        sequence. Raises BatchAssetsError when not even that fits.
        """
        started = time.perf_counter()
        part, retries = prepared.part, 0
        left = [range(part.rows)]
        with modes(self._device, self._half):
            while left:
                rows = left.pop()
                allowed = self._budgets.allowed(part.length, len(rows))
                if allowed < len(rows):
                    left.append(rows[allowed:])
                    rows = rows[:allowed]
                if not self._fits(prepared, rows):
                    retries += 1
                    left.append(rows)
        return Done(part, time.perf_counter() - started, retries)

    def _fits(self, prepared: Prepared, rows: range) -> bool:
        """Compute some rows; False, with all memory free again, if they do not fit."""
        part = prepared.part
        started = self._clock()
        try:
            self._batch(prepared, rows)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            if part.full and len(rows) == part.rows:
                seconds = self._clock() - started
                self._budgets.executed(part.length, part.rows, part.asked, seconds)
            return True
        # Outside of the handler: the exception held the frames, and these the tensors.
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        self._budgets.failed(part.length, len(rows))
        return False

    def _batch(self, prepared: Prepared, rows: range) -> None:
        arrays = (prepared.steps, prepared.lengths)
        inputs = (self._sent(array[rows.start : rows.stop]) for array in arrays)
        scores, vectors = self._network(*inputs)
        window, picked = prepared.part.window, prepared.part.picked[rows.start : rows.stop]
        window.scores[picked] = scores[: len(picked)].float().cpu().numpy()
        window.vectors[picked] = vectors[: len(picked)].float().cpu().numpy()

    def _sent(self, array: np.ndarray) -> Tensor:
        """An array on the device."""
        tensor = torch.from_numpy(array)
        if self._device.type == "cuda":
            return tensor.pin_memory().to(self._device, non_blocking=True)
        return tensor.to(self._device)
