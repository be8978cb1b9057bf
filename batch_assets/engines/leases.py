"""Which run computes on which device, across processes.

Whoever computes on a device holds a lock on its file; the system takes the lock away when the
process ends, in whatever way, so that nothing is to be cleaned up after a crash. What stands in
the file, who holds it and since when, is for people only.
"""

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from batch_assets.errors import BatchAssetsError

LOOK_SECONDS = 0.2
REMIND_SECONDS = 60


class DeviceBusyError(BatchAssetsError):
    """No device became free in time."""


class Leases:
    """The files of all devices: ``<device>``, or ``<device>-<slot>`` where several runs share one.

    Args:
        folder: where they lie; the same one for all processes that share the devices.
        slots: how many runs may use a device at the same time. Runs that share a device and runs
            that want it alone never get it together.
    """

    def __init__(self, folder: Path, slots: int = 1) -> None:
        self._folder = folder
        self._slots = slots

    @contextmanager
    def hold(
        self,
        devices: Sequence[str],
        run_id: str,
        *,
        most: int = 1,
        wait: bool = True,
        timeout: float | None = None,
        say: Callable[[str], None],
    ) -> Iterator[tuple[str, ...]]:
        """Hold a place on the first of the devices that is free; give it back at the end.

        Args:
            most: so many devices are taken if they are free at that moment; one is enough.
            wait: for one to become free, else fail at once.
            timeout: seconds to wait at most; None waits for ever.
            say: is told, in a sentence, whom this run waits for.

        Raises:
            DeviceBusyError: none became free; the message says who holds them.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        began = reminded = time.monotonic()
        waits = False
        with ExitStack() as held:
            while not (taken := self._take(devices, run_id, most, held)):
                now = time.monotonic()
                if not wait or (timeout is not None and now - began >= timeout):
                    raise DeviceBusyError(
                        f"{self._held_by(devices)}. Wait for it to end, or name another device."
                    )
                if not waits or now - reminded >= REMIND_SECONDS:
                    say(f"{self._held_by(devices)}; run {run_id} waits")
                    waits, reminded = True, now
                time.sleep(LOOK_SECONDS)
            yield taken

    def _take(
        self, devices: Sequence[str], run_id: str, most: int, held: ExitStack
    ) -> tuple[str, ...]:
        taken: list[str] = []
        for device in devices:
            locks = self._locks(device) if len(taken) < most else []
            for lock in locks:
                held.callback(os.close, lock)
            if locks:
                _note(locks[-1], run_id)
                taken.append(device)
        return tuple(taken)

    def _locks(self, device: str) -> list[int]:
        """Locked files that together are a place on the device; none if there is no place."""
        if self._slots == 1:
            alone = _lock(self._folder / device, fcntl.LOCK_EX)
            return [] if alone is None else [alone]
        shared = _lock(self._folder / device, fcntl.LOCK_SH)
        if shared is None:
            return []
        for slot in range(self._slots):
            place = _lock(self._folder / f"{device}-{slot}", fcntl.LOCK_EX)
            if place is not None:
                return [shared, place]
        os.close(shared)
        return []

    def _held_by(self, devices: Sequence[str]) -> str:
        return "; ".join(
            f"{device} is held by {' and '.join(self._holders(device)) or 'another process'}"
            for device in devices
        )

    def _holders(self, device: str) -> Iterator[str]:
        for path in [self._folder / device, *sorted(self._folder.glob(f"{device}-*"))]:
            if not path.exists():
                continue
            free = _lock(path, fcntl.LOCK_SH)
            if free is not None:  # what stands in it is from a process that is gone
                os.close(free)
                continue
            try:
                who = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError):  # is being written
                continue
            yield f"run {who['run_id']} (pid {who['pid']}) since {who['since']}"


def _lock(path: Path, kind: int) -> int | None:
    """The open, locked file, which no program inherits; None if somebody else holds it."""
    file = os.open(path, os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        if not isinstance(error, BlockingIOError):
            raise
        return None
    return file


def _note(lock: int, run_id: str) -> None:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    os.ftruncate(lock, 0)
    os.pwrite(lock, json.dumps({"run_id": run_id, "pid": os.getpid(), "since": since}).encode(), 0)
