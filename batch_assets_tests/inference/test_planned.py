import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from batch_assets.errors import BatchAssetsError
from batch_assets.inference.compiling import can_compile
from batch_assets.inference.plan import ComputePlan, PlanChanged
from batch_assets.inference.planned import PlannedNetwork, device_kind
from batch_assets.inference.stats import EngineStats
from batch_assets.inference.tuning import Tuning

CPU = torch.device("cpu")
KIND = device_kind(CPU)
ROWS = np.random.default_rng(5).normal(size=(5000, 6)).astype(np.float32)


class Sized(nn.Module):
    """Its results tell how many rows were computed at once, and small batches are slow."""

    def __init__(self, most: int = 65_536) -> None:
        super().__init__()
        self.most = most

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        if len(rows) > self.most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        for _ in range(200):
            torch.exp(torch.zeros(64))
        return rows[:, 0] + len(rows), rows


def planned(
    network: nn.Module, tuning: Tuning | None = None, precision: str = "fp32", rows: int = 0
) -> PlannedNetwork:
    return PlannedNetwork(
        network,
        CPU,
        features=6,
        version="v1",
        precision=precision,
        bound=0.002,
        batch_rows=rows or None,
        output_rows=8192,
        threads=2,
        tuning=tuning,
    )


def scores(model: PlannedNetwork, rows: np.ndarray, stats: EngineStats | None = None) -> np.ndarray:
    plan = model.prepare(rows)
    with model.compute() as compute:
        job = model.start(compute, rows, plan)
        return model.finish(compute, job, plan, stats or EngineStats())[0]


def test_where_bits_depend_on_the_size_all_rows_are_computed_at_one() -> None:
    model = planned(Sized())
    pinned = model.prepare(ROWS).batch_rows
    assert pinned in (512, 1024, 2048)
    stats = EngineStats()
    assert (scores(model, ROWS, stats) - ROWS[:, 0]).round().tolist() == [pinned] * len(ROWS)
    assert stats.batch_rows == pinned
    few, _ = model.run_few(ROWS[:3], model.prepare(ROWS))
    assert few.tobytes() == scores(model, ROWS[:3]).tobytes()
    assert f" {pinned}" in model.salt(model.prepare(ROWS))


def test_a_plan_once_made_is_used_by_all_that_come_later(tmp_path: Path) -> None:
    tuning = Tuning(tmp_path / "sizes.json", "m")
    first = planned(Sized(), tuning).prepare(ROWS)
    other = planned(Sized(), tuning)
    assert other.plan == first
    kept = ComputePlan("bf16", smallest=64, largest=512)
    assert tuning.keep_plan(kept, KIND, "auto within 0.002") == kept
    again = planned(Sized(), tuning, "auto")
    assert again.prepare(None) == kept
    assert "bf16" in again.salt(kept)


def test_of_two_that_plan_at_once_one_counts_for_both(tmp_path: Path) -> None:
    tuning = Tuning(tmp_path / "sizes.json", "m")
    late = planned(Sized(), tuning)
    assert late.plan is None
    first = ComputePlan("fp32", batch_rows=256)
    tuning.keep_plan(first, KIND, "fp32")
    assert late.prepare(ROWS) == first


def test_whoever_has_a_plan_learns_that_another_process_changed_it(tmp_path: Path) -> None:
    tuning = Tuning(tmp_path / "sizes.json", "m")
    model = planned(Sized(), tuning)
    assert model.is_current()
    plan = model.prepare(ROWS)
    assert model.is_current()
    other = ComputePlan("fp32", batch_rows=256, largest=256)
    assert tuning.keep_plan(other, KIND, "fp32", replaces=plan) == other
    assert not model.is_current()
    assert planned(Sized(), tuning).prepare(ROWS) == other


def test_a_pinned_size_that_does_not_fit_any_more_changes_the_plan_for_good(
    tmp_path: Path,
) -> None:
    tuning = Tuning(tmp_path / "sizes.json", "m")
    before = ComputePlan("fp32", batch_rows=2048, largest=2048)
    tuning.keep_plan(before, KIND, "fp32")
    model = planned(Sized(most=1024), tuning)
    old_salt = model.salt(model.prepare(ROWS))
    with pytest.raises(PlanChanged, match="2048 rows do not fit"):
        scores(model, ROWS)
    after = ComputePlan("fp32", batch_rows=1024, largest=1024)
    assert tuning.read_plan(KIND, "fp32") == model.plan == after
    assert model.salt(after) != old_salt
    assert (scores(model, ROWS) - ROWS[:, 0]).round().tolist() == [1024] * len(ROWS)
    with model.compute() as compute, pytest.raises(PlanChanged, match="otherwise by now"):
        model.start(compute, ROWS, before)


def test_a_pinned_size_of_256_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    tuning = Tuning(tmp_path / "sizes.json", "m")
    tuning.keep_plan(ComputePlan("fp32", batch_rows=256), KIND, "fp32")
    network = Sized()
    model = planned(network, tuning)
    network.most = 100
    with pytest.raises(BatchAssetsError, match="Not even 256 rows"):
        scores(model, ROWS)


def test_a_size_that_was_asked_for_is_used() -> None:
    model = planned(Sized(), rows=768)
    assert model.prepare(ROWS).batch_rows == 768
    assert (scores(model, ROWS) - ROWS[:, 0]).round().tolist() == [768] * len(ROWS)


def test_precision_auto_is_chosen_on_rows_and_cannot_be_told_before() -> None:
    model = planned(Sized(), precision="auto")
    with pytest.raises(BatchAssetsError, match="on the first rows"):
        model.prepare(None)
    assert model.prepare(ROWS[:10]).precision == "fp32"
    assert model.prepare(None) == model.plan


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.linear = nn.Linear(6, 4)

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        vectors = torch.relu(self.linear(rows))
        return torch.sigmoid(vectors.sum(1)), vectors


@pytest.mark.skipif(not can_compile(CPU), reason="there is no C++ compiler")
def test_a_plan_to_compile_is_followed_by_each_process(tmp_path: Path) -> None:
    tuning = Tuning(tmp_path / "sizes.json", "m")
    tuning.keep_plan(ComputePlan("fp32", compiled=True, batch_rows=512, largest=512), KIND, "fp32")
    stats = EngineStats()
    compiled = scores(planned(Linear(), tuning), ROWS, stats)
    assert (stats.compiled, stats.batch_rows) == (True, 512)
    np.testing.assert_allclose(compiled, scores(planned(Linear()), ROWS), atol=1e-6)
    model = planned(Linear(), tuning)
    few, _ = model.run_few(ROWS[:3], model.prepare(None))
    assert few.tobytes() == compiled[:3].tobytes()


class Slow(nn.Module):
    """A millisecond a row."""

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        time.sleep(len(rows) / 1000)
        return rows[:, 0], rows


def test_a_slow_network_works_in_blocks_that_are_soon_done() -> None:
    assert planned(Slow()).block_rows <= 1024
    assert planned(Sized()).block_rows == 8192
