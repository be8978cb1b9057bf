"""Resident memory of a process and of all that it starts, while it runs (Linux)."""

import threading
import time
from dataclasses import dataclass
from pathlib import Path

INTERVAL_SECONDS = 0.05


@dataclass(frozen=True)
class Sample:
    """Resident bytes at a moment (seconds since 1970)."""

    at: float
    resident: int


class Sampler:
    """Samples a process and its children in a thread, as a context manager.

    Of memory that grows and shrinks between two samples nothing is seen, so `peak` also takes
    into account the highest mark that the kernel keeps of each process alone.
    """

    def __init__(self, pid: int) -> None:
        self.samples: list[Sample] = []
        self._pid = pid
        self._marks: dict[int, int] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self._thread.join()

    @property
    def peak(self) -> int:
        """Highest number of resident bytes."""
        sampled = max((sample.resident for sample in self.samples), default=0)
        return max(sampled, max(self._marks.values(), default=0))

    def peak_between(self, first: float, last: float) -> int:
        """Highest number of resident bytes from one moment to another; 0 without a sample."""
        return max((s.resident for s in self.samples if first <= s.at <= last), default=0)

    def _watch(self) -> None:
        while not self._stopped.wait(INTERVAL_SECONDS):
            resident = 0
            for pid in (self._pid, *_children(self._pid)):
                now, mark = _status(pid)
                resident += now
                self._marks[pid] = max(mark, self._marks.get(pid, 0))
            if resident:
                self.samples.append(Sample(time.time(), resident))


def _children(pid: int) -> list[int]:
    """All descendants of a process."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            direct = [int(word) for word in task.read_text().split()]
        except OSError:
            continue
        for child in direct:
            found += [child, *_children(child)]
    return found


def _status(pid: int) -> tuple[int, int]:
    """Resident bytes of a process now and at most; zeros once it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0, 0
    sizes = dict(line.split(":", 1) for line in text.splitlines() if line.startswith("Vm"))
    kilobytes = [int(sizes.get(name, "0").split()[0]) for name in ("VmRSS", "VmHWM")]
    return kilobytes[0] * 1024, kilobytes[1] * 1024
