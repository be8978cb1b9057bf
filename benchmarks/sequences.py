"""Histories of different length: batches by length against batches in the order of arrival."""

import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Result, Work
from benchmarks.histories import (
    FEATURES,
    compute,
    draw_lengths,
    encoder,
    histories,
    in_order_of_arrival,
    in_threads,
    padded,
)
from benchmarks.pairing import pairing
from benchmarks.turns import Run, by_turns, ratio, timed

ROWS = 10_000
RUNS = 3
ONE_LENGTH = 32
ARRIVAL_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
# At which lengths and steps a batch the fastest rate is looked for, and how long each time.
LENGTHS = (4, 8, 16, 32, 64, 128, 256, 512)
STEPS = (1024, 2048, 4096, 8192)
RATE_SECONDS = 0.1
LEARNING_RUNS = 6


def main() -> Result:
    """Sides by turns: the budgets of ours and the batch size of the other are found before."""
    return {
        "histories of 1 to 512 steps": _compared(draw_lengths(ROWS)),
        "histories of one length": _compared(np.full(ROWS, ONE_LENGTH)),
        "one thread decodes, one computes": pairing(RUNS),
        # On a machine that is busy otherwise only CPU seconds mean something.
        "processes that wanted a core, of ours and others": round(os.getloadavg()[0], 1),
    }


def _compared(lengths: np.ndarray) -> Result:
    with tempfile.TemporaryDirectory(prefix="sequences-") as folder:
        results = by_turns(
            {
                "by length": partial(_by_length, lengths, Path(folder)),
                "in order of arrival": partial(_arrival, lengths),
                "best possible": partial(_best_possible, lengths),
            },
            RUNS,
        )
    ours, arrival, best = results.values()
    results["by length, times as fast as in order of arrival"] = ratio(arrival, ours)
    results["by length, share of the best possible"] = ratio(best, ours)
    for name, other in (("times as fast", arrival), ("share of the best possible", best)):
        by_cpu = other["cpu_seconds"] / ours["cpu_seconds"]
        results[f"by length, {name}, by CPU seconds"] = round(by_cpu, 2)
    return results


def _by_length(lengths: np.ndarray, folder: Path) -> tuple[Run, Result]:
    """This project's scorer, once it has found its budgets."""
    import pyarrow as pa

    from batch_assets.inference.sequences.scoring import SequenceScorer
    from batch_assets.inference.sequences.windows import sequence_array
    from batch_assets.inference.tuning import Tuning

    offsets = np.concatenate([[0], np.cumsum(lengths)])
    column = sequence_array(np.concatenate(histories(lengths)), offsets)
    rows = pa.record_batch({"history": column})
    tuning = Tuning(folder / "tuning.json", "encoder")
    scorer = SequenceScorer(encoder(), "history", FEATURES, device="cpu", tuning=tuning)
    learning = 0
    while learning == 0 or (learning < LEARNING_RUNS and not scorer.budgets.settled):
        _score(scorer, rows)
        learning += 1
    found = (f"{steps:,} up to length {n}" for n, steps in scorer.budgets.steps.items())
    notes = {"steps a batch": ", ".join(found), "runs to find them": learning}
    return partial(timed, _score, scorer, rows), notes


def _score(scorer: Any, rows: Any) -> int:
    return sum(batch.num_rows for batch in scorer.score([rows]))


def _arrival(lengths: np.ndarray) -> tuple[Run, Result]:
    """In batches of as many rows as was fastest on an eighth of them."""
    network, items = encoder(), histories(lengths)
    sample = items[: len(items) // 8]
    seconds = {}
    for size in ARRIVAL_SIZES:
        in_order_of_arrival(network, sample[:256], size)
        cpu = timed(in_order_of_arrival, network, sample, size).more["cpu_seconds"]
        seconds[size] = float(cpu)
    best = min(seconds, key=lambda size: seconds[size])
    rates = (f"{size}: {len(sample) / spent:,.0f}" for size, spent in seconds.items())
    notes = {"rows a batch": best, "rows a CPU-second by rows a batch": ", ".join(rates)}
    return partial(timed, in_order_of_arrival, network, items, best), notes


def _best_possible(lengths: np.ndarray) -> tuple[Run, Result]:
    """All steps at the fastest rate of their length, nothing padded, nothing but the network."""
    network = encoder()
    known = [length for length in LENGTHS if lengths.min() / 2 < length < 2 * lengths.max()]
    fastest = {n: max(STEPS, key=lambda steps: _rates(network, n, steps)[1]) for n in known}

    def run() -> Work:
        rates = np.array([_rates(network, length, fastest[length]) for length in known])
        seconds, cpu = (float((lengths / _between(lengths, known, each)).sum()) for each in rates.T)
        return Work(len(lengths), seconds, {"cpu_seconds": cpu})

    return run, {}


def _between(lengths: np.ndarray, known: list[int], rates: np.ndarray) -> np.ndarray:
    """The rate of each length, from those of some."""
    interpolated: np.ndarray = np.exp(np.interp(np.log(lengths), np.log(known), np.log(rates)))
    return interpolated


def _rates(network: Any, length: int, steps: int) -> tuple[float, float]:
    """Steps a second with all threads, and steps a CPU-second, of batches of one length."""
    batch = padded([np.ones((length, FEATURES), np.float32)] * max(1, steps // length))

    def work() -> tuple[float, float]:
        compute(network, batch)
        started, cpu, done = time.perf_counter(), time.thread_time(), 0
        while time.perf_counter() - started < RATE_SECONDS:
            compute(network, batch)
            done += batch[0].shape[0] * length
        return done / (time.perf_counter() - started), done / (time.thread_time() - cpu)

    each = np.array(in_threads(work))
    return float(each[:, 0].sum()), float(each[:, 1].mean())
