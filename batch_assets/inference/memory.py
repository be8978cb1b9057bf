"""How much memory a device has for this process, and how much of it was used."""

import os
import resource
import sys
from pathlib import Path

import torch

_CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def memory_budget(device: torch.device) -> int:
    """Bytes that this process may use at most: of the GPU, else of this machine or container."""
    if device.type == "cuda":
        share = torch.cuda.get_per_process_memory_fraction(device)
        return int(share * torch.cuda.get_device_properties(device).total_memory)
    limits = [_physical_bytes(), *map(_limit_in, _CGROUP_LIMITS)]
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        limits.append(soft)
    return min(limit for limit in limits if limit)


def peak_memory(device: torch.device) -> int:
    """Bytes of the GPU that were in use at most, else the most that was resident, ever."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _physical_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _limit_in(path: Path) -> int:
    """Bytes that a control group allows, 0 if there is no limit."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # not there, or "max"
        return 0
