"""How busy, full and hot GPUs are while they compute, as NVIDIA's driver says."""

import statistics
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

SAMPLE_SECONDS = 1.0


@dataclass(frozen=True)
class Reading:
    """One look at a GPU; None is what the driver does not tell of it.

    Attributes:
        busy: share of the last moments (up to a second) in which it computed, 0 to 1.
        memory_bytes: memory in use, by all processes.
        celsius: its temperature.
    """

    busy: float | None
    memory_bytes: int | None
    celsius: int | None


@dataclass
class GpuUse:
    """What was read of one or several GPUs."""

    readings: list[Reading] = field(default_factory=list)

    @property
    def busy(self) -> float | None:
        """Mean share of the time in which they computed, 0 to 1; None if it was not told."""
        told = [r.busy for r in self.readings if r.busy is not None]
        return statistics.fmean(told) if told else None

    @property
    def peak_memory_bytes(self) -> int | None:
        """The most memory in use of one of them; None if it was not told."""
        return max((r.memory_bytes for r in self.readings if r.memory_bytes), default=None)

    @property
    def peak_celsius(self) -> int | None:
        """The highest temperature of one of them; None if it was not told."""
        return max((r.celsius for r in self.readings if r.celsius), default=None)


@contextmanager
def measured(devices: Sequence[str], seconds: float = SAMPLE_SECONDS) -> Iterator[GpuUse | None]:
    """Look at devices (``cuda:0``, ...) every so many seconds, in a thread, until the block ends.

    Yields:
        What was read so far, and complete after the block; None where there is no NVIDIA GPU
        among the devices, or no driver that tells of it.
    """
    with ExitStack() as stack:
        readers = _nvidia_readers(devices, stack)
        if not readers:
            yield None
            return
        yield stack.enter_context(sampled(readers, seconds))


@contextmanager
def sampled(readers: Sequence[Callable[[], Reading]], seconds: float) -> Iterator[GpuUse]:
    """Call the readers in turn in a thread: at once, every so many seconds, and at the end."""
    use = GpuUse()
    over = threading.Event()

    def look() -> None:
        while True:
            last = over.is_set()
            for read in readers:
                use.readings.append(read())
            if last:
                return
            over.wait(seconds)

    thread = threading.Thread(target=look, name="batch_assets-gpu-meter", daemon=True)
    thread.start()
    try:
        yield use
    finally:
        over.set()
        thread.join()


def _nvidia_readers(devices: Sequence[str], stack: ExitStack) -> list[Callable[[], Reading]]:
    """A reader for each of the devices that is NVIDIA's, if there is a driver to ask."""
    import pynvml

    if not any(device.startswith("cuda") for device in devices):
        return []
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    stack.callback(pynvml.nvmlShutdown)
    handles = [_handle(pynvml, device) for device in devices if device.startswith("cuda")]
    return [_reader(pynvml, handle) for handle in handles if handle is not None]


def _handle(pynvml: Any, device: str) -> Any:
    """The driver counts all GPUs, torch those in CUDA_VISIBLE_DEVICES: they meet by UUID."""
    import torch

    uuid = torch.cuda.get_device_properties(device).uuid
    try:
        return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    except pynvml.NVMLError:
        return None


def _reader(pynvml: Any, handle: Any) -> Callable[[], Reading]:
    def told(ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except pynvml.NVMLError:
            return None

    def read() -> Reading:
        percent = told(lambda: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        return Reading(
            busy=None if percent is None else percent / 100,
            memory_bytes=told(lambda: int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)),
            celsius=told(
                lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)
            ),
        )

    return read
