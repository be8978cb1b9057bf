"""Memory that was used and is free again goes back to the system.

Allocators keep what was freed for the next time, the C library in as many heaps as eight times
the cores. A run goes through many steps, each with another library that allocates for itself, so
what they keep adds up: a gigabyte, after a day of ten million rows.
"""

import ctypes
import os
import sys
from functools import cache
from typing import Any

import pyarrow as pa

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # malloc.h
LARGE_BYTES = 4 << 20
"""Allocations from this size on go back as soon as they are freed: a third less memory at the
peak of building a vector index, and scoring as fast as before (1 MiB: less still, but slower)."""


def release_memory() -> None:
    """Give free memory back; takes milliseconds.

    From the first call on, Arrow allocates where all others do, and the C library keeps one heap
    a core and no large piece of memory, unless the environment says otherwise
    (ARROW_DEFAULT_MEMORY_POOL, MALLOC_ARENA_MAX, MALLOC_MMAP_THRESHOLD_).
    """
    _be_frugal()
    pa.default_memory_pool().release_unused()
    if libc := _glibc():
        libc.malloc_trim(0)


@cache
def _be_frugal() -> None:
    if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ:
        pa.set_memory_pool(pa.system_memory_pool())
    libc = _glibc()
    if libc and "MALLOC_ARENA_MAX" not in os.environ:
        libc.mallopt(_M_ARENA_MAX, max(2, os.cpu_count() or 1))
    if libc and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        libc.mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)


@cache
def _glibc() -> Any:
    """The C library, where it can trim its heaps."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "malloc_trim") else None
