"""Signals that ask a process to end are heard, and obeyed as soon as nothing is lost by it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StoppedError(BaseException):
    """The work was left at a point from which it can go on; not an error that one repairs."""


class Stop:
    """Whether a signal came."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self) -> bool:
        """True as soon as the work is to end."""
        return self.signal is not None


@contextmanager
def gentle_stop() -> Iterator[Stop]:
    """Within it SIGTERM and SIGINT interrupt nothing; they are there to be asked for.

    At the end of the block, what was installed before hears of the signal; where nothing was,
    SystemExit is raised, so that the process ends, and what has to be done before that is done. A
    second signal is not held back. Outside of the main thread, which alone gets signals, nothing
    ever comes.

    In the background of a shell SIGINT is ignored, and stays so. Dagster then ignores SIGTERM, too,
    which nobody asked for: that one is heard.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    if before[signal.SIGINT] is signal.SIG_IGN:
        del before[signal.SIGINT]

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def hear(number: int, frame: FrameType | None) -> None:
        stop.signal = number
        restore()

    for number in before:
        signal.signal(number, hear)
    try:
        yield stop
    finally:
        restore()
        if stop.signal is not None:
            if before[signal.Signals(stop.signal)] in (signal.SIG_DFL, signal.SIG_IGN):
                raise SystemExit(128 + stop.signal)
            signal.raise_signal(stop.signal)
