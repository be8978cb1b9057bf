"""Which device computes."""

import torch

from batch_assets.errors import BatchAssetsError


def resolve_device(wanted: str = "auto") -> tuple[torch.device, str]:
    """The device to compute on, and a sentence on why it is that one.

    ``auto`` takes the first CUDA device, else Apple's GPU (mps), else the CPU, and says so. Any
    other name (``cpu``, ``cuda``, ``cuda:1``, ``mps``) must be there: raises BatchAssetsError.
    """
    if wanted == "auto":
        return _best_device()
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise BatchAssetsError(
            f"There is no device called {wanted!r}. Use auto, cpu, cuda, cuda:<number> or mps."
        ) from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise BatchAssetsError(
            f"Scoring on {wanted!r} is not supported. Use auto, cpu, cuda, cuda:<number> or mps."
        )
    missing = _why_missing(device)
    if missing:
        raise BatchAssetsError(
            f"Device {wanted!r} was asked for, but {missing}. "
            "Use 'auto', which falls back to the CPU, or install what is missing."
        )
    return device, f"{device}, as asked for"


def _best_device() -> tuple[torch.device, str]:
    if torch.cuda.is_available():
        return torch.device("cuda", 0), f"cuda:0, {torch.cuda.get_device_name(0)}"
    if torch.backends.mps.is_available():
        return torch.device("mps"), "mps, the GPU of this Apple machine"
    return torch.device("cpu"), f"no GPU found: the CPU, with {torch.get_num_threads()} threads"


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
