"""Spreads tasks over several devices, one process a device.

A process is given one task at a time, and the next one when its result is there. One that dies
takes nothing with it but the task in its hands, which another process is given. No process
outlives the one that started it, however that ends.
"""

import atexit
import os
import pickle
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from batch_assets.errors import BatchAssetsError

Task = TypeVar("Task")
Result = TypeVar("Result")

# A task in whose hands so many processes died would end the next one, too.
MOST_DEATHS = 3
# How long it takes at most to notice that a stop is asked for.
LOOK_SECONDS = 0.2
# How long a process that has nothing to do any more may take to end.
END_SECONDS = 5.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_stops: list[Callable[[], bool]] = []


def stop_asked() -> bool:
    """Whether the work in hand is to end as soon as nothing is lost by it; for workers to ask."""
    return any(stop() for stop in _stops)


class WorkerTraceback(Exception):
    """The traceback of an exception in the process of its worker; the cause of it here."""


def spread(
    tasks: Iterable[Task],
    devices: Sequence[str],
    make_worker: Callable[[str], Callable[[Task], Result]],
    *,
    stop: Callable[[], bool] = lambda: False,
    rest: Callable[[Task, Result], Iterable[Task]] = lambda task, result: (),
) -> Generator[tuple[Task, Result], None, None]:
    """Yield each task with its result when it is done, in any order.

    With one device all is done in this process, task after task. With several, each has a process
    of its own, started anew (spawn); those on the CPU share the cores of this process out among
    them. Tasks and results go through pipes: let them be names and numbers, not rows. Closing the
    iterator before its end kills the processes.

    Args:
        tasks: taken one by one, as there is a device for the next.
        devices: such as ``["cuda:0", "cuda:1"]`` or ``["cpu", "cpu"]``.
        make_worker: called once in each process with its device; what it returns is called with
            each task. With several devices it is pickled, as are tasks and results.
        stop: asked again and again. Once it says yes, no task is begun, workers are told by
            :func:`stop_asked`, and what they still return is yielded.
        rest: what is left to be done of a task, given its result; is done next.

    Raises:
        BatchAssetsError: the processes that a task was given to died.
        BaseException: what a worker raised; its traceback is the cause.
    """
    if not devices:
        raise BatchAssetsError("There is no device to spread the work over: name at least one.")
    if len(devices) > 1:
        yield from _over_processes(tasks, devices, make_worker, stop, rest)
        return
    with _stopping_with(stop):
        work = make_worker(devices[0])
        for task in tasks:
            left = [task]
            while left:
                if stop():
                    return
                task = left.pop()
                result = work(task)
                left += rest(task, result)
                yield task, result


@contextmanager
def _stopping_with(stop: Callable[[], bool]) -> Iterator[None]:
    _stops.append(stop)
    try:
        yield
    finally:
        _stops.remove(stop)


@dataclass
class _Job:
    task: Any
    deaths: int = 0


class _Process:
    """A worker's process, seen from the one that started it."""

    def __init__(self, place: int, devices: Sequence[str], make_worker: Any) -> None:
        self.job: _Job | None = None
        self._device = devices[place]
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, self._device, _cores(place, devices), make_worker)
        )
        resource_tracker.ensure_running()  # when it is started, Python 3.11 unblocks signals
        # Ctrl-C reaches the process, too; until it is ready to ignore that, it must not die of it.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        theirs.close()
        atexit.register(self._process.kill)  # else Python waits for it, if nobody called `end`

    def give(self, job: _Job) -> None:
        """Let it do a job."""
        self.job = job
        self._say((job.task,))

    def tell_to_stop(self) -> None:
        """Let it end what it does, and then end."""
        self._say(())

    def _say(self, message: tuple[Any, ...]) -> None:
        with suppress(OSError):  # a process that is dead is seen when its answer is read
            self.pipe.send(message)

    def answer(self) -> Any:
        """The result of its job.

        Raises:
            EOFError: it is dead.
            BaseException: what the worker raised.
        """
        try:
            answer = self.pipe.recv_bytes()
        except OSError as error:  # died in the middle of a message
            raise EOFError from error
        done, result, text = pickle.loads(answer)
        self.job = None
        if done:
            return result
        raise result from WorkerTraceback(f"on {self._device}\n{text}")

    def how_it_ended(self) -> str:
        self._process.join(END_SECONDS)
        code = self._process.exitcode or 0
        if code == -signal.SIGKILL:
            return "was killed, as the system does when memory runs out"
        return f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"

    def end(self, *, at_once: bool) -> None:
        """Wait for its end, if it is to end by itself, and see to it that it has ended."""
        if not at_once:
            self._process.join(END_SECONDS)
        self._process.kill()
        self._process.join()
        atexit.unregister(self._process.kill)
        self.pipe.close()


def _over_processes(
    tasks: Iterable[Task],
    devices: Sequence[str],
    make_worker: Callable[[str], Callable[[Task], Result]],
    stop: Callable[[], bool],
    rest: Callable[[Task, Result], Iterable[Task]],
) -> Generator[tuple[Task, Result], None, None]:
    new = (_Job(task) for task in tasks)
    again: list[_Job] = []
    processes: dict[int, _Process] = {}
    stopping = done = False
    try:
        while True:
            if not stopping and stop():
                stopping = True
                for process in processes.values():
                    process.tell_to_stop()
            for place in range(len(devices)) if not stopping else ():
                if place in processes and processes[place].job:
                    continue
                job = again.pop() if again else next(new, None)
                if job is None:
                    break
                if place not in processes:
                    processes[place] = _Process(place, devices, make_worker)
                processes[place].give(job)
            busy = {p.pipe: (place, p, p.job) for place, p in processes.items() if p.job}
            if not busy:
                break
            for pipe in wait(list(busy), LOOK_SECONDS):
                place, process, job = busy[pipe]  # type: ignore[index]
                try:
                    result = process.answer()
                except EOFError:
                    del processes[place]
                    _count_death(job, process)
                    if not stopping:
                        again.append(job)
                else:
                    again += map(_Job, rest(job.task, result))
                    yield job.task, result
        done = True
    finally:
        for process in processes.values():
            process.tell_to_stop()
        for process in processes.values():
            process.end(at_once=not done)


def _count_death(job: _Job, process: _Process) -> None:
    how = process.how_it_ended()
    process.end(at_once=True)
    job.deaths += 1
    if job.deaths >= MOST_DEATHS:
        raise BatchAssetsError(
            f"{job.deaths} processes died while they worked on {job.task!r}; the last one {how}. "
            "Use fewer workers, or give each of them more memory."
        )


def _cores(place: int, devices: Sequence[str]) -> list[int]:
    """The cores of a worker on the CPU; none, which means all, for one on a GPU."""
    if devices[place] != "cpu" or not hasattr(os, "sched_getaffinity"):
        return []
    cores = sorted(os.sched_getaffinity(0))
    number = devices[:place].count("cpu")
    return cores[number :: devices.count("cpu")] or [cores[number % len(cores)]]


def _serve(pipe: Connection, device: str, cores: Sequence[int], make_worker: Any) -> None:
    """What a worker's process does. Signals are for its parent to hear."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    if cores:
        os.sched_setaffinity(0, cores)
        if torch := sys.modules.get("torch"):  # imported later, it sees for itself
            torch.set_num_threads(len(cores))
    asked = threading.Event()
    tasks: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
    threading.Thread(target=_hear, args=(pipe, tasks, asked), daemon=True).start()
    with _stopping_with(asked.is_set):
        work = None
        while message := tasks.get():
            try:
                work = work or make_worker(device)
                answer = pickle.dumps((True, work(*message), ""))
            except BaseException as error:
                answer = _failure(error)
            pipe.send_bytes(answer)


def _hear(pipe: Connection, tasks: "queue.SimpleQueue[Any]", asked: threading.Event) -> None:
    """Pass on what the parent says; when it is dead, end this process, whatever it does."""
    try:
        while message := pipe.recv():
            tasks.put(message)
        asked.set()
        tasks.put(())
        pipe.recv()
    finally:
        os._exit(1)


def _failure(error: BaseException) -> bytes:
    text = "".join(traceback.format_exception(error))
    try:
        answer = pickle.dumps((False, error, text))
        pickle.loads(answer)
    except Exception:
        answer = pickle.dumps((False, BatchAssetsError(f"{type(error).__name__}: {error}"), text))
    return answer
