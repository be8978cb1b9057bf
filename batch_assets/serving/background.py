"""Threads that load and follow tables, so that they do not delay those that answer."""

import os
import sys
import threading
from contextlib import suppress

NICENESS = 10
SWITCH_SECONDS = 0.0005
"""After which a thread that computes lets another one go on; Python's own 0.005 s are waited for
several times a question, once after each read and write."""


def answer_first() -> None:
    """Let the threads of this process take turns often."""
    sys.setswitchinterval(SWITCH_SECONDS)


def stand_back() -> None:
    """Give this thread a lower priority than those that answer, where the system can (Linux)."""
    if sys.platform == "linux":
        with suppress(OSError):
            me = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, me, max(NICENESS, os.getpriority(os.PRIO_PROCESS, me)))
