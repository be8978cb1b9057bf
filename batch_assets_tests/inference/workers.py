"""Workers for the tests of spreading, and a process that spreads and meets its end.

Called as a program with ``raise``, ``stop`` or ``wait``: each of two workers says that it has begun
a task which has no end; the program is then killed, stopped, or fails by itself.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from batch_assets.errors import BatchAssetsError
from batch_assets.inference.spread import spread, stop_asked


class OddError(Exception):
    """Cannot be sent from one process to another."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one + two)


def squares(device: str) -> Callable[[int], int]:
    return lambda number: number * number


def about_the_process(device: str) -> Callable[[int], tuple[int, str, list[int], int]]:
    """Its id, its device, its cores, and the threads of torch."""
    import torch

    cores = sorted(os.sched_getaffinity(0))
    return lambda task: (os.getpid(), device, cores, torch.get_num_threads())


def dies_at_first(device: str) -> Callable[[Path], str]:
    """Is killed the first time that it is given a file that does not exist."""

    def work(path: Path) -> str:
        if path.exists():
            return path.name
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    return work


def dies(device: str) -> Callable[[str], NoReturn]:
    def work(task: str) -> NoReturn:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    return work


def fails(device: str) -> Callable[[str], Any]:
    """Fails in the way that the task names."""

    def work(task: str) -> Any:
        if task == "ours":
            raise BatchAssetsError("row 7 is odd")
        if task == "odd":
            raise OddError("row 7 ", "is odd")
        if task == "result":
            return threading.Lock()
        return task

    return work


def cannot_be_made(device: str) -> Callable[[str], str]:
    raise BatchAssetsError(f"no model on {device}")


def until_stopped(device: str) -> Callable[[Path], str]:
    """Says that it began by making the file, and goes on until it is to stop."""

    def work(path: Path) -> str:
        path.touch()
        while not stop_asked():
            threading.Event().wait(0.01)
        return "stopped"

    return work


def endless(device: str) -> Callable[[int], int]:
    def work(task: int) -> int:
        print("begun", flush=True)
        threading.Event().wait()
        return task

    return work


def says_when_stopped(device: str) -> Callable[[int], int]:
    def work(task: int) -> int:
        print("begun", flush=True)
        while not stop_asked():
            threading.Event().wait(0.01)
        return task

    return work


def squares_but_one_is_endless(device: str) -> Callable[[int], int]:
    return lambda task: endless(device)(task) if task else 0


def main(what: str, devices: Sequence[str] = ("cpu", "cpu")) -> None:
    if what == "stop":
        stopped = threading.Event()
        signal.signal(signal.SIGTERM, lambda number, frame: stopped.set())
        for task, _ in spread(range(9), devices, says_when_stopped, stop=stopped.is_set):
            print("done", task, flush=True)
        return
    make_worker = endless if what == "wait" else squares_but_one_is_endless
    results = spread(range(2), devices, make_worker)  # the traceback keeps it from being closed
    for task, _ in results:
        raise RuntimeError(f"task {task} is not wanted")


if __name__ == "__main__":
    main(sys.argv[1])
