import numpy as np
import pytest
import torch
from torch import Tensor, nn

from batch_assets.inference.network import TabularNetwork
from batch_assets.inference.plan import ComputePlan, plan_of
from batch_assets.inference.shapes import plan_sizes

CPU = torch.device("cpu")
ROWS = np.random.default_rng(5).normal(size=(5000, 6)).astype(np.float32)
FP32 = ComputePlan("fp32")


def test_fp32_on_the_cpu_gives_equal_bits_at_all_sizes_and_small_ones_too() -> None:
    torch.manual_seed(3)
    network = TabularNetwork(ROWS.shape[1])
    network.fit_encoding(ROWS)
    plan = plan_sizes(network.eval(), CPU, FP32, ROWS, 4096)
    assert (plan.batch_rows, plan.largest) == (None, 4096)
    with torch.inference_mode():
        whole = network(torch.from_numpy(ROWS[:256]))[1]
        parts = [network(part)[1] for part in torch.from_numpy(ROWS[:256]).split(plan.smallest)]
    assert torch.equal(torch.cat(parts), whole)


class Sized(nn.Module):
    """Results tell how many rows were computed at once; a row costs more in small batches."""

    def __init__(self, alike: range, slow: range = range(0)) -> None:
        super().__init__()
        self.alike, self.slow = alike, slow

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        for _ in range(len(rows) if len(rows) in self.slow else 0):
            torch.exp(torch.zeros(64))
        moved = 0.0 if len(rows) in self.alike else 1e-6 * len(rows)
        return rows[:, 0] + moved, rows


def test_sizes_that_differ_are_left_out_where_those_that_agree_are_as_fast() -> None:
    alike = range(64, 1025)
    plan = plan_sizes(Sized(alike, range(1025, 9999)), CPU, FP32, ROWS, 4096)
    assert plan == ComputePlan("fp32", smallest=64, largest=1024)


def test_one_size_is_pinned_where_those_that_agree_are_slower() -> None:
    plan = plan_sizes(Sized(range(512), range(1024)), CPU, FP32, ROWS, 4096)
    assert plan.batch_rows in (1024, 2048, 4096)
    assert plan.largest == plan.batch_rows
    assert plan_of(plan.as_json()) == plan


class Placed(nn.Module):
    """In larger batches results depend on where in the batch a row stands."""

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        if len(rows) > 256:
            return rows[:, 0] + torch.arange(len(rows)) * 1e-3, rows
        for _ in range(300):
            torch.exp(torch.zeros(64))
        return rows[:, 0], rows


def test_a_size_at_which_the_place_in_the_batch_matters_is_never_used() -> None:
    assert plan_sizes(Placed(), CPU, FP32, ROWS, 2048).largest == 256


class Large(nn.Module):
    def __init__(self, most: int, error: Exception) -> None:
        super().__init__()
        self.most, self.error = most, error

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        if len(rows) > self.most:
            raise self.error
        return rows[:, 0], rows


def test_sizes_that_do_not_fit_are_left_out_and_other_errors_raised() -> None:
    short = Large(1024, RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    assert plan_sizes(short, CPU, FP32, ROWS, 8192).largest == 1024
    with pytest.raises(RuntimeError, match="wrong"):
        plan_sizes(Large(1024, RuntimeError("wrong")), CPU, FP32, ROWS, 8192)


def test_a_few_rows_are_enough_and_nan_is_equal_to_itself() -> None:
    rows = ROWS[:3].copy()
    rows[1, 0] = np.nan
    assert plan_sizes(Sized(range(10_000)), CPU, FP32, rows, 1024) == ComputePlan(
        "fp32", smallest=32, largest=1024
    )
