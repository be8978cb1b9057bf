"""What GPUs do is read where a driver tells of it, and is nothing anywhere else."""

import threading

import pytest
import torch

from batch_assets.engines.gpu_meter import Reading, measured, sampled

NO_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")


@NO_CUDA
@pytest.mark.parametrize("devices", [["cpu"], ["cuda:0"], ["mps"], []])
def test_without_a_driver_there_is_nothing_to_read(devices: list[str]) -> None:
    with measured(devices) as use:
        assert use is None


def test_readings_are_averaged_and_their_peaks_kept() -> None:
    told = [Reading(0.5, 100, 40), Reading(None, 300, None), Reading(1.0, 200, 60)]
    left, read_all = list(told), threading.Event()

    def read() -> Reading:
        if left:
            return left.pop(0)
        read_all.set()
        return Reading(None, None, None)

    with sampled([read], seconds=0) as use:
        assert read_all.wait(60)
    assert use.readings[:3] == told
    assert (use.busy, use.peak_memory_bytes, use.peak_celsius) == (0.75, 300, 60)


def test_what_the_driver_does_not_tell_is_none() -> None:
    with sampled([lambda: Reading(None, None, None)], seconds=60) as use:
        pass
    assert (use.busy, use.peak_memory_bytes, use.peak_celsius) == (None, None, None)


def test_a_short_block_is_read_at_its_begin_and_its_end() -> None:
    with sampled([lambda: Reading(0.5, 1, 1), lambda: Reading(1.0, 2, 2)], seconds=60) as use:
        pass
    assert len(use.readings) in (2, 4)  # the thread may only have begun when the block ends
    assert use.busy == 0.75


@pytest.mark.gpu
def test_a_gpu_that_computes_is_busy_and_full() -> None:
    matrix = torch.rand(4096, 4096, device="cuda:0")
    with measured(["cuda:0"], seconds=0.1) as use:
        for _ in range(2000):
            matrix = torch.tanh(matrix @ matrix)
        torch.cuda.synchronize()
    assert use is not None
    assert use.busy
    assert use.peak_memory_bytes is not None
    assert use.peak_memory_bytes >= matrix.nbytes
    assert use.peak_celsius
