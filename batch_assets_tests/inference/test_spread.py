"""Tasks are all done, once each, whatever happens to the processes; and no process stays behind."""

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO

import pytest

from batch_assets.errors import BatchAssetsError
from batch_assets.inference.spread import MOST_DEATHS, WorkerTraceback, spread, stop_asked
from batch_assets_tests.inference import workers

TWO = ["cpu", "cpu"]


@pytest.fixture(autouse=True)
def _no_process_stays() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("number", [1, 2, 3])
def test_every_task_is_done_once(number: int) -> None:
    done = list(spread(range(20), ["cpu"] * number, workers.squares))
    assert sorted(done) == [(n, n * n) for n in range(20)]


@pytest.mark.parametrize("number", [1, 2])
def test_without_tasks_there_is_nothing_to_do(number: int) -> None:
    assert list(spread([], ["cpu"] * number, workers.squares)) == []


def test_without_devices_nothing_can_be_done() -> None:
    with pytest.raises(BatchAssetsError, match="at least one"):
        next(spread([1], [], workers.squares))


@pytest.mark.parametrize("number", [1, 2])
def test_what_is_left_of_a_task_is_done_too(number: int) -> None:
    def rest(task: int, square: int) -> list[int]:
        return [task + 10, task + 20] if task < 10 else []

    done = list(spread(range(3), ["cpu"] * number, workers.squares, rest=rest))
    assert sorted(task for task, _ in done) == [0, 1, 2, 10, 11, 12, 20, 21, 22]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs Linux")
def test_each_device_has_a_process_and_those_on_the_cpu_share_its_cores() -> None:
    mine = sorted(os.sched_getaffinity(0))
    told = [result for _, result in spread(range(2), TWO, workers.about_the_process)]
    assert len({os.getpid(), *(pid for pid, *_ in told)}) == 3
    cores = [core for _, _, cores, _ in told for core in cores]
    assert set(cores) == set(mine)
    assert len(mine) == 1 or sorted(cores) == mine
    assert [threads for *_, threads in told] == [len(cores) for _, _, cores, _ in told]


def test_on_one_device_the_work_is_done_in_this_process() -> None:
    [(_, (pid, device, *_))] = spread([1], ["cpu"], workers.about_the_process)
    assert (pid, device) == (os.getpid(), "cpu")


def test_tasks_are_taken_as_they_are_needed() -> None:
    with closing(spread(itertools.count(), TWO, workers.squares)) as results:
        first = dict(itertools.islice(results, 5))
    assert all(result == task * task for task, result in first.items())


def test_the_task_of_a_process_that_is_killed_is_done_by_another(tmp_path: Path) -> None:
    tasks = [tmp_path / f"{n}" for n in range(5)]
    tasks[3].touch()
    done = list(spread(tasks, TWO, workers.dies_at_first))
    assert sorted(done) == [(path, path.name) for path in tasks]


def test_a_task_that_kills_every_process_is_an_error_in_the_end() -> None:
    expected = rf"{MOST_DEATHS} processes died while they worked on 'bad'.*was killed.*memory"
    with pytest.raises(BatchAssetsError, match=expected):
        list(spread(["bad"], TWO, workers.dies))


def test_what_a_worker_raises_comes_with_its_traceback() -> None:
    with pytest.raises(BatchAssetsError, match="row 7 is odd") as raised:
        list(spread(["fine", "ours"], TWO, workers.fails))
    assert isinstance(raised.value.__cause__, WorkerTraceback)
    assert 'raise BatchAssetsError("row 7 is odd")' in str(raised.value.__cause__)


def test_what_cannot_be_sent_is_told_all_the_same() -> None:
    with pytest.raises(BatchAssetsError, match="OddError: row 7 is odd"):
        list(spread(["odd"], TWO, workers.fails))
    with pytest.raises(TypeError, match="pickle"):
        list(spread(["result"], TWO, workers.fails))


@pytest.mark.parametrize("number", [1, 2])
def test_a_worker_that_cannot_be_made_is_an_error(number: int) -> None:
    with pytest.raises(BatchAssetsError, match="no model on cpu"):
        list(spread(["any"], ["cpu"] * number, workers.cannot_be_made))


@pytest.mark.parametrize("number", [1, 2])
def test_asked_to_stop_workers_end_what_they_have_in_hand(tmp_path: Path, number: int) -> None:
    tasks = [tmp_path / f"{n}" for n in range(5)]

    def all_have_begun() -> bool:
        return all(path.exists() for path in tasks[:number])

    done = list(spread(tasks, ["cpu"] * number, workers.until_stopped, stop=all_have_begun))
    assert sorted(done) == [(path, "stopped") for path in tasks[:number]]
    assert sorted(tmp_path.iterdir()) == tasks[:number]
    assert not stop_asked()


@contextmanager
def program(what: str) -> Iterator[tuple["subprocess.Popen[str]", IO[str]]]:
    """A process that spreads, in a group of its own; its output ends when the last one has."""
    spreads = subprocess.Popen(
        [sys.executable, "-m", "batch_assets_tests.inference.workers", what],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert spreads.stdout
    try:
        with spreads.stdout:
            yield spreads, spreads.stdout
    finally:
        with suppress(ProcessLookupError):
            os.killpg(spreads.pid, signal.SIGKILL)
        spreads.wait()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_do_not_outlive_the_one_that_started_them(number: signal.Signals) -> None:
    with program("wait") as (spreads, told):
        assert [told.readline() for _ in range(2)] == ["begun\n"] * 2
        spreads.send_signal(number)
        assert told.read() == ""
        assert spreads.wait() == -number


def test_an_error_that_nobody_handles_ends_all_processes() -> None:
    with program("raise") as (spreads, told):
        assert "RuntimeError: task 0 is not wanted" in told.read()
        assert spreads.wait() == 1


def test_a_signal_to_all_processes_ends_them_as_their_parent_says() -> None:
    with program("stop") as (spreads, told):
        assert [told.readline() for _ in range(2)] == ["begun\n"] * 2
        os.killpg(spreads.pid, signal.SIGTERM)
        assert sorted(told.read().splitlines()) == ["done 0", "done 1"]
        assert spreads.wait() == 0
