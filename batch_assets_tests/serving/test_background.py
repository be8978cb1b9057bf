"""Threads that load stand back behind those that answer."""

import os
import sys
import threading

import pytest

from batch_assets.serving.background import NICENESS, stand_back


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities on Linux alone")
def test_only_the_thread_that_asks_stands_back() -> None:
    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    seen: list[int] = []

    def load() -> None:
        stand_back()
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    thread = threading.Thread(target=load)
    thread.start()
    thread.join()
    assert seen == [max(before, NICENESS)]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before
