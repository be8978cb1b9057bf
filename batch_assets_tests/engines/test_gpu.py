"""The resource that gives a run its device, and the tags by which other machines do."""

from pathlib import Path

import pytest
import torch

from batch_assets.engines.gpu import GPU, gpu_tags, places, slots_of
from batch_assets.engines.leases import DeviceBusyError
from batch_assets.errors import BatchAssetsError
from batch_assets.settings import Settings

NO_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")


def configured(**values: object) -> Settings:
    return Settings.model_validate({"device": "auto", **values})


def test_runs_on_the_cpu_do_not_wait_for_each_other(home: Path) -> None:
    gpu = GPU(device="cpu")
    with gpu.lease("run-1", wait=False) as first, gpu.lease("run-2", wait=False) as second:
        assert (first.name, second.name) == ("cpu", "cpu")
        assert first.note == "cpu, as asked for"
    assert list(home.iterdir()) == []


@pytest.mark.usefixtures("home")
def test_the_cpu_is_named_once_for_each_worker() -> None:
    with GPU(device="cpu", workers=3).lease("run-1") as leased:
        assert leased.names == ("cpu", "cpu", "cpu")


@NO_CUDA
@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("device", ["cuda", "cuda:1", "cuda:0,cuda:1"])
def test_a_device_that_is_not_there_is_an_error(device: str) -> None:
    with (
        pytest.raises(BatchAssetsError, match=r"'cuda(:\d)?' was asked for.*'auto'"),
        GPU(device=device).lease("run-1"),
    ):
        pytest.fail("there is no such device")


@pytest.mark.parametrize(
    ("share", "slots"),
    [(1.0, 1), (0.7, 1), (0.5, 2), (0.34, 2), (1 / 3, 3), (0.1, 10), (0.01, 100)],
)
def test_as_many_runs_share_a_gpu_as_fit(share: float, slots: int) -> None:
    assert slots_of(share) == slots


def test_on_the_cpu_one_step_computes_at_a_time() -> None:
    assert places("cpu", 0.5) == 1


@pytest.mark.parametrize("device", ["auto", "cpu", "mps"])
def test_a_step_asks_for_no_gpu_where_none_is_configured(device: str) -> None:
    assert gpu_tags(configured(device=device, workers=4)) == {}


@pytest.mark.parametrize(
    ("device", "workers", "share", "whole", "ray"),
    [
        ("cuda", 1, 1.0, "1", 1.0),
        ("cuda:1", 4, 1.0, "1", 1.0),
        ("cuda", 4, 1.0, "4", 4),
        ("cuda:0,cuda:1", 4, 1.0, "2", 2),
        ("cuda", 1, 0.5, "1", 0.5),
    ],
)
def test_a_step_asks_for_the_gpus_that_it_uses(
    device: str, workers: int, share: float, whole: str, ray: float
) -> None:
    tags = gpu_tags(configured(device=device, workers=workers, gpu_memory_share=share))
    assert tags["dagster-k8s/config"] == {
        "container_config": {"resources": {"limits": {"nvidia.com/gpu": whole}}}
    }
    assert tags["dagster-ray/config"] == {"num_gpus": ray}


@pytest.mark.gpu
@pytest.mark.usefixtures("home")
def test_a_gpu_is_held_by_one_run() -> None:
    gpu = GPU(device="cuda:0")
    with gpu.lease("run-1") as leased:
        assert leased.name == "cuda:0"
        with pytest.raises(DeviceBusyError, match="run run-1"), gpu.lease("run-2", wait=False):
            pytest.fail("the device is held")


@pytest.mark.gpu
@pytest.mark.usefixtures("home")
def test_a_share_of_the_memory_is_a_limit_until_the_lease_ends() -> None:
    total = torch.cuda.mem_get_info(0)[1]
    with (
        GPU(device="cuda:0", memory_share=0.1).lease("run-1"),
        pytest.raises(torch.OutOfMemoryError),
    ):
        torch.empty(total // 5, dtype=torch.uint8, device="cuda:0")
    assert torch.empty(total // 5, dtype=torch.uint8, device="cuda:0").nbytes == total // 5
