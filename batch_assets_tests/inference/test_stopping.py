"""Signals within a gentle stop."""

import signal
from collections.abc import Iterator

import pytest

from batch_assets.inference.stopping import gentle_stop


@pytest.fixture(autouse=True)
def _handlers_stay() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("before", [signal.SIG_DFL, signal.SIG_IGN])
def test_sigterm_is_heard_and_ends_the_process_afterwards(before: signal.Handlers) -> None:
    signal.signal(signal.SIGTERM, before)
    heard: list[bool] = []

    def work() -> None:
        with gentle_stop() as stop:
            heard.append(stop())
            signal.raise_signal(signal.SIGTERM)
            heard.append(stop())

    with pytest.raises(SystemExit) as ended:
        work()
    assert heard == [False, True]
    assert ended.value.code == 128 + signal.SIGTERM


def test_sigint_that_was_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in the background of a shell, or nohup
    with gentle_stop() as stop:
        signal.raise_signal(signal.SIGINT)
        assert not stop()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
