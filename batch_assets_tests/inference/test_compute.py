import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from batch_assets.inference.compute import Compute
from batch_assets.inference.network import TabularNetwork
from batch_assets.inference.plan import ComputePlan
from batch_assets.inference.planned import device_kind
from batch_assets.inference.sizing import BatchSizer, Learned
from batch_assets.inference.stats import EngineStats
from batch_assets.inference.tuning import Tuning
from batch_assets_tests.inference import little_memory

TORCH_THREADS = torch.get_num_threads()
CPU = torch.device("cpu")
ROWS = np.random.default_rng(5).normal(size=(9000, 6)).astype(np.float32)


class AnySize(BatchSizer):
    """Changes its mind before every batch."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__(65_536)
        self.left = list(sizes)

    def next_rows(self) -> int:
        return 256 * self.left.pop() if self.left else 1024


def network() -> TabularNetwork:
    torch.manual_seed(3)
    made = TabularNetwork(ROWS.shape[1])
    made.fit_encoding(ROWS)
    return made.eval()


NETWORK = network()


def computed(sizer: BatchSizer, rows: np.ndarray, threads: int, half: bool = False) -> list[bytes]:
    with Compute(NETWORK, CPU, threads=threads, size=64, torch_threads=TORCH_THREADS) as compute:
        return [part.tobytes() for part in compute.run(rows, sizer, half, EngineStats())]


WHOLE = {half: computed(AnySize([]), ROWS, 1, half) for half in (False, True)}


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(1, 36), max_size=30),
    st.integers(1, 3),
    st.integers(0, 9000),
    st.booleans(),
)
def test_sizes_that_change_in_mid_stream_give_the_same_bits(
    sizes: list[int], threads: int, start: int, half: bool
) -> None:
    scores, vectors = computed(AnySize(sizes), ROWS[start:], threads, half)
    assert scores == WHOLE[half][0][4 * start :]
    assert vectors == WHOLE[half][1][4 * 64 * start :]


def test_settings_of_torch_are_as_before_also_for_new_threads() -> None:
    computed(AnySize([]), ROWS, 2)
    assert torch.get_num_threads() == TORCH_THREADS
    with ThreadPoolExecutor(1) as new:
        assert new.submit(torch.get_num_threads).result() == TORCH_THREADS


class Broken(nn.Module):
    """Cannot compute rows that hold a 7."""

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        if (rows == 7).any():
            raise RuntimeError("seven")
        return rows[:, 0], rows


def test_an_error_that_is_not_about_memory_is_raised_and_ends_all_threads() -> None:
    rows = ROWS.copy()
    rows[5000] = 7
    with (
        Compute(Broken(), CPU, threads=2, size=6, torch_threads=TORCH_THREADS) as compute,
        pytest.raises(RuntimeError, match="seven"),
    ):
        compute.run(rows, AnySize([]), False, EngineStats())


def scored_in_a_process(tuning: Path, rows: int, free_mib: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", little_memory.__name__, str(tuning), str(rows), str(free_mib)],
        check=True,
        stdout=subprocess.PIPE,
    )
    return dict(json.loads(done.stdout))


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS and /proc")
def test_a_process_short_of_memory_halves_goes_on_and_remembers(tmp_path: Path) -> None:
    path = tmp_path / "sizes.json"
    place = (f"{device_kind(CPU)}, 1 threads", "fp32")
    Tuning(path, "wide").keep(Learned(16_384, settled=True), *place)
    equal = ComputePlan("fp32", largest=16_384)
    Tuning(path, "wide").keep_plan(equal, device_kind(CPU), "fp32")
    free = scored_in_a_process(path, 17_000, 0)
    assert (free["batch_rows"], free["out_of_memory"]) == (16_384, 0)

    short = scored_in_a_process(path, 17_000, 500)
    assert short["out_of_memory"] > 0
    assert short["batch_rows"] < 16_384
    assert (short["rows"], short["digest"]) == (17_000, free["digest"])
    learned = Tuning(path, "wide").read(*place, memory=short["memory"])
    assert learned is not None
    assert learned == Learned(short["batch_rows"], True, 2 * short["batch_rows"])

    again = scored_in_a_process(path, 17_000, 500)
    assert (again["rows"], again["digest"]) == (17_000, free["digest"])
    assert again["batch_rows"] <= short["batch_rows"]
    # What fits varies a little with what lies where in memory.
    assert again["out_of_memory"] < short["out_of_memory"]
    assert Tuning(path, "wide").read(*place, memory=2 * short["memory"]) == Learned(
        again["batch_rows"], settled=False
    )


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS and /proc")
def test_a_process_short_of_memory_for_a_pinned_size_changes_the_plan(tmp_path: Path) -> None:
    tuning = Tuning(tmp_path / "sizes.json", "wide")
    pinned = ComputePlan("fp32", batch_rows=16_384, largest=16_384)
    tuning.keep_plan(pinned, device_kind(CPU), "fp32")
    short = scored_in_a_process(tuning.path, 4000, 500)
    plan = tuning.read_plan(device_kind(CPU), "fp32")
    assert plan is not None
    assert plan.batch_rows == short["batch_rows"] == 16_384 // 2 ** short["changes"] < 16_384


class InPlace(nn.Module):
    """Changes the rows that it is given."""

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        rows.mul_(2.0)
        return rows[:, 0], rows


def test_a_network_that_works_in_place_does_not_change_memory_that_is_only_lent() -> None:
    rows = ROWS.copy()
    rows.flags.writeable = False
    with Compute(InPlace(), CPU, threads=2, size=6, torch_threads=TORCH_THREADS) as compute:
        _, vectors = compute.run(rows, AnySize([1, 2]), False, EngineStats())
    assert (vectors == 2 * ROWS).all()
    assert (rows == ROWS).all()
