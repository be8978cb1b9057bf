"""Which devices there are, and which of them compute."""

import os

import torch

from batch_assets.errors import BatchAssetsError

_NAMES = "auto, cpu, cuda, cuda:<number>, several of these with commas between, or mps"


def found_devices() -> list[str]:
    """All devices of this machine that models run on: CUDA devices or mps first, the CPU last."""
    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if not gpus and torch.backends.mps.is_available():
        gpus = ["mps"]
    return [*gpus, "cpu"]


def allowed_devices(wanted: str = "auto") -> list[str]:
    """The devices that may be used, the one to be preferred first; at least one.

    Args:
        wanted: ``auto`` (all GPUs, or the CPU where there is none), ``cpu``, ``cuda`` (all CUDA
            devices), ``cuda:1``, a list such as ``cuda:0,cuda:1``, or ``mps``.

    Raises:
        BatchAssetsError: a device that was named is not there.
    """
    found = found_devices()
    if wanted == "auto":
        return found[:-1] or found
    if wanted == "cuda":
        return [name for name in found if name.startswith("cuda")] or [_present("cuda")]
    return list(dict.fromkeys(_present(name.strip()) for name in wanted.split(",")))


def resolve_device(wanted: str = "auto") -> tuple[torch.device, str]:
    """The first device that may be used, and a sentence on why it is that one.

    See :func:`allowed_devices` for what can be wanted and what is raised.
    """
    device = torch.device(allowed_devices(wanted)[0])
    return device, device_note(str(device), wanted)


def usual_threads(device: torch.device) -> int:
    """On a CPU the cores that this process may use; elsewhere two, that copies overlap."""
    if device.type != "cpu":
        return 2
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device_name(device: str) -> str | None:
    """What the maker of a GPU calls it; None for other devices."""
    if not device.startswith("cuda") or not torch.cuda.is_available():
        return None
    return torch.cuda.get_device_name(torch.device(device))


def device_note(device: str, wanted: str) -> str:
    """What a device is, and why it is used, for people."""
    if device == "cpu":
        if wanted == "cpu":
            return "cpu, as asked for"
        return f"no GPU found: the CPU, with {torch.get_num_threads()} threads"
    if device == "mps":
        return "mps, the GPU of this Apple machine"
    return f"{device}, {torch.cuda.get_device_name(device)}"


def limit_memory(device: str, share: float) -> None:
    """Let this process use at most that share (above 0, at most 1) of a GPU's memory.

    What goes beyond it is out of memory, to which the scorer answers with smaller batches. Each
    process that computes has to ask for it. On the CPU nothing is limited.
    """
    if device.startswith("cuda"):
        torch.cuda.set_per_process_memory_fraction(share, torch.device(device))
    elif device == "mps":
        torch.mps.set_per_process_memory_fraction(share)


def _present(name: str) -> str:
    """The name of one device, as torch writes it, if it is there."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BatchAssetsError(f"There is no device called {name!r}. Use {_NAMES}.") from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise BatchAssetsError(f"Scoring on {name!r} is not supported. Use {_NAMES}.")
    missing = _why_missing(device)
    if missing:
        raise BatchAssetsError(
            f"Device {name!r} was asked for, but {missing}. "
            "Use 'auto', which falls back to the CPU, or install what is missing."
        )
    return f"cuda:{device.index or 0}" if device.type == "cuda" else device.type


def _why_missing(device: torch.device) -> str | None:
    """What keeps this device from being used, or None."""
    if device.type == "mps":
        return None if torch.backends.mps.is_available() else "this machine has no Apple GPU"
    if device.type != "cuda":
        return None
    if not torch.cuda.is_available():
        return "torch finds no CUDA device here"
    count = torch.cuda.device_count()
    return f"there are only {count}" if (device.index or 0) >= count else None
