"""Each run has its device for itself, or shares it as configured, and a crash gives it back."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import pytest

from batch_assets.engines.leases import DeviceBusyError, Leases

Process = subprocess.Popen[str]
Start = Callable[..., Process]


def said(process: Process) -> str:
    """The next line; waits for it."""
    out: IO[str] | None = process.stdout
    assert out
    return out.readline().strip()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a process that holds a lease."""
    with ExitStack() as stack:

        def start(run_id: str, *devices: str, slots: int = 1) -> Process:
            words = ["-m", "batch_assets_tests.engines.lease_holder", str(tmp_path), run_id]
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, *words, str(slots), *devices],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(process.kill)
            return process

        yield start


def take(folder: Path, *devices: str, slots: int = 1, most: int = 1) -> tuple[str, ...]:
    """What a run of this process would get at this moment."""
    leases = Leases(folder, slots)
    with leases.hold(devices, "mine", most=most, wait=False, say=pytest.fail) as names:
        return names


def test_the_device_of_a_process_that_is_killed_goes_to_the_one_that_waits(start: Start) -> None:
    first = start("run-1", "cuda:0")
    assert said(first) == "got cuda:0"
    second = start("run-2", "cuda:0")
    told = said(second)
    assert told.startswith(f"cuda:0 is held by run run-1 (pid {first.pid}) since 20")
    assert told.endswith("; run run-2 waits")
    first.kill()
    assert said(second) == "got cuda:0"


def test_a_device_is_given_back_at_the_end(start: Start, tmp_path: Path) -> None:
    first = start("run-1", "cuda:0")
    assert said(first) == "got cuda:0"
    with pytest.raises(DeviceBusyError, match=r"cuda:0 is held by run run-1 \(pid \d+\)"):
        take(tmp_path, "cuda:0")
    first.communicate()
    assert take(tmp_path, "cuda:0") == ("cuda:0",)


def test_the_first_device_that_is_free_is_taken(start: Start, tmp_path: Path) -> None:
    holders = [start("run-1", "cuda:0", "cuda:1")]
    assert said(holders[0]) == "got cuda:0"
    assert take(tmp_path, "cuda:0", "cuda:1") == ("cuda:1",)
    holders.append(start("run-2", "cuda:0", "cuda:1"))
    assert said(holders[1]) == "got cuda:1"
    with pytest.raises(DeviceBusyError, match=r"cuda:0 .* run-1 .*cuda:1 .* run-2 "):
        take(tmp_path, "cuda:0", "cuda:1")
    holders[0].kill()
    holders[0].wait()
    assert take(tmp_path, "cuda:0", "cuda:1") == ("cuda:0",)


def test_as_many_runs_share_a_device_as_it_has_slots(start: Start, tmp_path: Path) -> None:
    holders = [start(f"run-{n}", "cuda:0", slots=2) for n in range(2)]
    assert [said(holder) for holder in holders] == ["got cuda:0"] * 2
    with pytest.raises(DeviceBusyError, match=r"run run-\d .* and run run-\d "):
        take(tmp_path, "cuda:0", slots=2)
    holders[0].kill()
    holders[0].wait()
    assert take(tmp_path, "cuda:0", slots=2) == ("cuda:0",)


def test_a_run_that_wants_a_device_alone_never_shares_it(start: Start, tmp_path: Path) -> None:
    alone = start("alone", "cuda:0")
    shares = start("shares", "cuda:1", slots=2)
    assert [said(alone), said(shares)] == ["got cuda:0", "got cuda:1"]
    with pytest.raises(DeviceBusyError, match="run alone"):
        take(tmp_path, "cuda:0", slots=2)
    with pytest.raises(DeviceBusyError, match="run shares"):
        take(tmp_path, "cuda:1")


def test_of_several_devices_all_that_are_free_can_be_taken(start: Start, tmp_path: Path) -> None:
    devices = [f"cuda:{n}" for n in range(4)]
    assert said(start("run-1", "cuda:1")) == "got cuda:1"
    assert take(tmp_path, *devices, most=4) == ("cuda:0", "cuda:2", "cuda:3")
    assert take(tmp_path, *devices, most=2) == ("cuda:0", "cuda:2")


def test_who_waits_gives_up_when_its_time_is_over(start: Start, tmp_path: Path) -> None:
    assert said(start("run-1", "cuda:0")) == "got cuda:0"
    waits = Leases(tmp_path).hold(["cuda:0"], "run-2", timeout=0, say=pytest.fail)
    with pytest.raises(DeviceBusyError, match="run-1"), waits:
        pytest.fail("the device is held")


def test_a_device_is_not_named_after_one_whose_name_begins_alike(
    start: Start, tmp_path: Path
) -> None:
    holders = [start("run-1", "cuda:1"), start("run-10", "cuda:10")]
    assert [said(holder) for holder in holders] == ["got cuda:1", "got cuda:10"]
    with pytest.raises(DeviceBusyError) as refused:
        take(tmp_path, "cuda:1")
    assert "run-10" not in str(refused.value)


def test_a_program_that_was_started_meanwhile_holds_nothing(tmp_path: Path) -> None:
    with Leases(tmp_path).hold(["cuda:0"], "mine", say=pytest.fail):
        program = subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False)
    assert take(tmp_path, "cuda:0") == ("cuda:0",)
    program.communicate()
