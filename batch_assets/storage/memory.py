"""Memory that was used and is free again goes back to the system.

Allocators keep what was freed for the next time. A run goes through many steps, each with another
library that allocates for itself, so what they keep adds up beyond what any one of them needs.
"""

import ctypes
import sys
from functools import cache
from typing import Any

import pyarrow as pa


def release_memory() -> None:
    """Give free memory back, and let Arrow allocate where all others do; takes milliseconds."""
    if pa.default_memory_pool().backend_name != "system":
        pa.set_memory_pool(pa.system_memory_pool())
    if libc := _glibc():
        libc.malloc_trim(0)


@cache
def _glibc() -> Any:
    """The C library, where it can trim its heap."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "malloc_trim") else None
