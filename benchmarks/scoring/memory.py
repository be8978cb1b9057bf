"""Memory of a process and of all that it starts, with what they share counted once (Linux)."""

import ctypes
import os
import threading
from collections import defaultdict
from pathlib import Path

INTERVAL_SECONDS = 0.1
PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """From now on, descendants whose parent ends become children of this process."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(pid: int) -> list[int]:
    """All processes below a process."""
    children = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (parent := _parent(entry)) is not None:
            children[parent].append(int(entry.name))
    found, left = [], [pid]
    while left:
        below = children[left.pop()]
        found += below
        left += below
    return found


def _parent(process: Path) -> int | None:
    try:
        # The name, in parentheses, may hold anything.
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None


class Observer:
    """The most memory that the descendants of this process had together; a context manager.

    Those that were there before it was made do not count.

    Of each process its proportional set size (PSS), from `smaps_rollup`: a page that several
    processes map, such as one of Ray's object store, is divided among them, so that it counts
    once in the sum.
    """

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._before = set(descendants(os.getpid()))
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Observer":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(INTERVAL_SECONDS):
            total = sum(pss_bytes(pid) for pid in self.processes())
            self.peak_bytes = max(self.peak_bytes, total)

    def processes(self) -> list[int]:
        """The descendants that count."""
        return [pid for pid in descendants(os.getpid()) if pid not in self._before]


def pss_bytes(pid: int) -> int:
    """Proportional set size of a process; 0 once it is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    lines = [line for line in text.splitlines() if line.startswith("Pss:")]
    return int(lines[0].split()[1]) * 1024 if lines else 0
