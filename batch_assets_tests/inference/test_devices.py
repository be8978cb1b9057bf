import pytest
import torch

from batch_assets.errors import BatchAssetsError
from batch_assets.inference.devices import allowed_devices, found_devices, resolve_device

NO_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
NO_GPU = pytest.mark.skipif(
    torch.cuda.is_available() or torch.backends.mps.is_available(),
    reason="this machine has a GPU",
)


@NO_GPU
def test_auto_falls_back_to_the_cpu_and_says_so() -> None:
    device, note = resolve_device("auto")
    assert device.type == "cpu"
    assert "no GPU found" in note


def test_a_device_that_is_named_is_taken() -> None:
    assert resolve_device("cpu")[0].type == "cpu"


@NO_CUDA
def test_a_device_that_is_not_there_is_an_error_that_names_the_way_out() -> None:
    with pytest.raises(BatchAssetsError, match=r"'cuda:1' was asked for.*'auto'"):
        resolve_device("cuda:1")


@pytest.mark.parametrize("wanted", ["gpu", "cuda:x", "", "xla"])
def test_an_unknown_name_is_an_error(wanted: str) -> None:
    with pytest.raises(BatchAssetsError, match="Use auto, cpu, cuda"):
        resolve_device(wanted)


def test_the_cpu_is_always_there() -> None:
    assert found_devices()[-1] == "cpu"
    assert allowed_devices("cpu") == ["cpu"]


@NO_GPU
def test_without_a_gpu_the_cpu_is_all_there_is() -> None:
    assert found_devices() == ["cpu"]
    assert allowed_devices("auto") == ["cpu"]


@NO_CUDA
@pytest.mark.parametrize("wanted", ["cuda", "cuda:0,cuda:1", "cpu,cuda:1", "cuda:0, cuda:1"])
def test_all_devices_of_a_list_have_to_be_there(wanted: str) -> None:
    with pytest.raises(BatchAssetsError, match=r"'cuda(:\d)?' was asked for"):
        allowed_devices(wanted)


@pytest.mark.gpu
def test_a_device_that_is_named_twice_is_one() -> None:
    assert allowed_devices("cuda:0, cuda:0") == ["cuda:0"]
    assert allowed_devices("cuda") == found_devices()[:-1]


@pytest.mark.gpu
def test_auto_takes_the_gpu() -> None:
    device, note = resolve_device("auto")
    assert device.type == "cuda"
    assert note.startswith("cuda:0")
