"""Sides of a comparison, each in a process of its own, that run one after another, several times.

What else the machine does then falls on all of them alike.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from benchmarks.harness import Result, Work, peak_bytes

Run = Callable[[], Work]
# Prepares in its process, and gives what is measured and what there is to say about it.
Side = Callable[[], tuple[Run, Result]]


def by_turns(sides: Mapping[str, Side], runs: int) -> Result:
    """Median seconds of each side, as :func:`benchmarks.harness.measure` has them."""
    context = get_context("spawn")
    pools = {name: ProcessPoolExecutor(1, mp_context=context) for name in sides}
    try:
        notes = {name: pools[name].submit(_prepare, side).result() for name, side in sides.items()}
        works: dict[str, list[Work]] = {name: [] for name in sides}
        for _ in range(runs):
            for name, pool in pools.items():
                works[name].append(pool.submit(_run).result())
        peaks = {name: pool.submit(peak_bytes).result() for name, pool in pools.items()}
    finally:
        for pool in pools.values():
            pool.shutdown()
    return {
        name: {**_figures(done), "peak_rss_bytes": peaks[name], **notes[name]}
        for name, done in works.items()
    }


def timed(function: Callable[..., int], *arguments: Any) -> Work:
    """The function gives rows; also kept are the CPU seconds of all threads."""
    started, cpu = time.perf_counter(), time.process_time()
    rows = function(*arguments)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    return Work(rows, seconds, {"cpu_seconds": cpu})


def ratio(other: Result, ours: Result) -> float:
    """How many times as fast: the median over runs that followed each other."""
    pairs = zip(other["seconds_of_runs"], ours["seconds_of_runs"], strict=True)
    return round(statistics.median(a / b for a, b in pairs), 2)


def _figures(runs: list[Work]) -> Result:
    seconds = statistics.median(run.seconds for run in runs)
    return {
        "rows": runs[0].rows,
        "seconds": round(seconds, 3),
        "rows_a_second": round(runs[0].rows / seconds),
        "seconds_of_runs": [round(run.seconds, 3) for run in runs],
        **{
            name: round(statistics.median(run.more[name] for run in runs), 3)
            for name in runs[0].more
        },
    }


_PREPARED: list[Run] = []


def _prepare(side: Side) -> Result:
    run, notes = side()
    _PREPARED.append(run)
    return notes


def _run() -> Work:
    return _PREPARED[0]()
