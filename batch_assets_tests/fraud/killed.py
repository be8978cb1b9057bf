"""Real processes that score days of a data home, and die when they are told to."""

import logging
import multiprocessing
import os
import signal
from collections.abc import Sequence
from datetime import date
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from batch_assets.protocol import Moment, watchers

CHUNK_ROWS = 16
# Imported once, by the process that all others are forked from: torch alone takes two seconds.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    ["batch_assets.fraud.run", "batch_assets.inference.scoring", "batch_assets.fraud.ledger"]
)


def start(home: Path, days: Sequence[date], **options: object) -> ForkServerProcess:
    """A process that brings the predictions of some days up to date, in small chunks.

    Args:
        options: see :func:`_score`.
    """
    process = _context.Process(target=_score, args=(home, list(days)), kwargs=options)
    process.start()
    return process


def end(process: ForkServerProcess) -> int:
    """Exit code of a process that is to end by itself."""
    process.join(120)
    assert process.exitcode is not None, "the process hangs"
    return process.exitcode


def _score(
    home: Path,
    days: list[date],
    kill_at: Moment | None = None,
    times: int = 1,
    tell: Connection | None = None,
    hold_at: Moment | None = None,
    release: Connection | None = None,
    log: Path | None = None,
    run_id: str = "",
) -> None:
    """Score; at the n-th coming of a moment die, or tell of it and go on when released."""
    os.environ["BATCH_ASSETS_HOME"] = str(home)
    if log:
        logging.basicConfig(filename=log)
    from batch_assets.fraud import chunks
    from batch_assets.fraud.keys import PREDICTIONS
    from batch_assets.fraud.run import open_pipeline

    chunks.ROWS = CHUNK_ROWS
    left = {kill_at: times}

    def watch(moment: Moment) -> None:
        if moment is kill_at:
            left[moment] -= 1
            if not left[moment]:
                os.kill(os.getpid(), signal.SIGKILL)
        if tell and moment is hold_at:
            tell.send(moment)
            if release:
                release.recv()

    watchers.append(watch)
    from dataclasses import replace

    pipeline = replace(open_pipeline(), run_id=run_id)
    pipeline.build(PREDICTIONS, days)
