from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from batch_assets.errors import BatchAssetsError
from batch_assets.inference import compiling
from batch_assets.inference.compiling import (
    Costs,
    can_compile,
    compiled_network,
    consider_compiling,
)
from batch_assets.inference.plan import ComputePlan, plan_of
from batch_assets.inference.precision import modes, one_thread

CPU = torch.device("cpu")
ROWS = np.random.default_rng(5).normal(size=(1000, 8)).astype(np.float32)
FP32 = ComputePlan("fp32", largest=1024)
needs_compiler = pytest.mark.skipif(not can_compile(CPU), reason="there is no C++ compiler")


class Elementwise(nn.Module):
    """Many passes over memory, which a compiler makes one of."""

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        wide = rows.repeat(1, 64)
        for step in range(20):
            wide = wide * 0.5 + step
        return wide.mean(1), rows


def test_it_pays_where_it_saves_four_times_what_it_takes() -> None:
    costs = Costs(compiling=10.0, eager=3e-6, compiled=2e-6)
    assert costs.pays(41e6)
    assert not costs.pays(39e6)
    assert not Costs(compiling=10.0, eager=2e-6, compiled=3e-6).pays(1e12)


@needs_compiler
def test_it_is_tried_only_for_long_work_and_kept_only_where_it_pays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = Elementwise()
    with monkeypatch.context() as patch:
        patch.setattr(compiling, "compiled_network", None)
        assert consider_compiling(network, CPU, FP32, ROWS, 1e5, 0.002) == FP32
    long = consider_compiling(network, CPU, FP32, ROWS, 1e15, 0.002)
    assert long.compiled
    assert long.batch_rows == long.largest in (256, 512, 1024)
    assert plan_of(long.as_json()) == long
    # The bound counts: nothing moves by less than nothing.
    assert consider_compiling(network, CPU, FP32, ROWS, 1e15, -1.0) == FP32


@needs_compiler
def test_every_thread_computes_the_same_with_it() -> None:
    network = Elementwise()
    rows = torch.from_numpy(ROWS[:256])
    compiled = compiled_network(network, CPU, False, (256, 8))

    def scores(_: int) -> bytes:
        with one_thread(), modes(CPU, False):
            return compiled(rows)[0].numpy().tobytes()

    with ThreadPoolExecutor(3) as threads:
        assert len(set(threads.map(scores, range(12)))) == 1


class NotCompilable(nn.Module):
    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        print(end="")
        torch._dynamo.graph_break()
        return rows[:, 0], rows


@needs_compiler
def test_a_network_that_cannot_be_compiled_is_computed_as_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert consider_compiling(NotCompilable(), CPU, FP32, ROWS, 1e15, 0.002) == FP32
    assert "torch.compile failed" in caplog.text


def test_without_a_compiler_it_is_off_and_a_plan_that_needs_it_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    assert consider_compiling(Elementwise(), CPU, FP32, ROWS, 1e15, 0.002) == FP32
    with pytest.raises(BatchAssetsError, match="Install g\\+\\+"):
        compiled_network(Elementwise(), CPU, False, (256, 8))
