"""Items of which some are heavy for the host, which decodes them, and some for the device.

One thread decodes, one computes: two resources that can be told apart on a CPU, too. The rasters
come first, then the long histories, as two sources deliver them.
"""

import time
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from benchmarks.harness import Result, in_own_process
from benchmarks.histories import FEATURES, LONGEST, Batch, compute, encoder, histories, padded
from benchmarks.turns import Run, by_turns, ratio, timed

# A raster is unpacked and becomes the means of 16 of its patches, in 16 columns each.
RASTERS, SIDE, PATCH = 1200, 576, 144
LONG_HISTORIES = 400
ARRIVAL_ROWS = (1, 4, 8, 16)
WAITING = 8
BATCH_STEPS = 4096
# Batches that are decoded, or being decoded, before the one that is computed.
AHEAD = 5
PLAIN, PACKED = b"0", b"1"


def pairing(runs: int) -> Result:
    """Paired against other orders, and against the one resource that has more to do."""
    results = by_turns(
        {
            "paired": partial(_scorer, pairing=True),
            "longest first": partial(_scorer, pairing=False),
            "in order of arrival": partial(_arrival, shuffled=False),
            "in order of arrival, shuffled": partial(_arrival, shuffled=True),
            "host alone": _host_alone,
            "device alone": _device_alone,
        },
        runs,
    )
    ours = results["paired"]
    for name in ("longest first", "in order of arrival", "in order of arrival, shuffled"):
        results[f"paired, times as fast as {name}"] = ratio(results[name], ours)
    bound = max(results["host alone"]["seconds"], results["device alone"]["seconds"])
    results["paired, share of the best possible"] = round(bound / ours["seconds"], 2)
    results["with a core for each, by CPU seconds"] = in_own_process(_by_cpu_seconds)
    return results


def _items(shuffled: bool = False) -> Any:
    """A record batch of packed items, their steps, and bytes once unpacked as what they cost."""
    import pyarrow as pa

    random = np.random.default_rng(3)
    small = random.integers(0, 255, (8, SIDE // 16, SIDE // 16), dtype=np.uint8)
    rasters = np.repeat(np.repeat(small, 16, 1), 16, 2)
    different = [PACKED + zlib.compress(raster.tobytes()) for raster in rasters]
    packed = [different[n % len(different)] for n in range(RASTERS)]
    lengths = random.integers(LONGEST // 2, LONGEST, LONG_HISTORIES)
    packed += [PLAIN + item.tobytes() for item in histories(lengths)]
    steps = [(SIDE // PATCH) ** 2] * RASTERS + lengths.tolist()
    cost = [SIDE * SIDE] * RASTERS + (4 * FEATURES * lengths).tolist()
    rows = pa.record_batch({"item": pa.array(packed, pa.binary()), "steps": steps, "cost": cost})
    order = random.permutation(len(packed)) if shuffled else np.arange(len(packed))
    return rows.take(pa.array(order))


def unpacked(item: object) -> np.ndarray:
    """Steps of an item, float32 [steps, 16]."""
    assert isinstance(item, bytes)
    if item[:1] == PLAIN:
        return np.frombuffer(item, np.float32, offset=1).reshape(-1, FEATURES)
    pixels = np.frombuffer(zlib.decompress(item[1:]), np.uint8)
    patches = pixels.reshape(SIDE // PATCH, PATCH, SIDE // PATCH, FEATURES, PATCH // FEATURES)
    means = patches.mean(axis=(1, 4), dtype=np.float32).reshape(-1, FEATURES)
    scaled: np.ndarray = means / np.float32(255)
    return scaled


def _scorer(pairing: bool) -> tuple[Run, Result]:
    """This project's scorer; without pairing it is told that nothing costs anything."""
    import pyarrow as pa

    from batch_assets.inference.sequences.scoring import SequenceScorer
    from batch_assets.inference.sequences.windows import Encoded

    rows = _items()
    if not pairing:
        rows = rows.set_column(2, "cost", pa.array([0] * len(rows)))
    scorer = SequenceScorer(
        encoder(),
        "item",
        FEATURES,
        encoded=Encoded(unpacked, "steps", "cost"),
        device="cpu",
        batch_steps=BATCH_STEPS,
        threads=1,
    )
    return partial(timed, lambda: sum(batch.num_rows for batch in scorer.score([rows]))), {}


def _arrival(shuffled: bool) -> tuple[Run, Result]:
    """In batches of as many rows as took the least CPU time on a quarter of them."""
    network, items = encoder(), _items(shuffled)["item"].to_pylist()

    def run(items: list[bytes], size: int) -> int:
        from batch_assets.inference.stages import ahead

        batches = _decoded(items, size)
        waiting = ahead(batches, size=lambda _: 1, limit=WAITING, blocked=lambda _: None)
        return _all_computed(network, waiting)

    spent = {size: timed(run, items[::4], size).more["cpu_seconds"] for size in ARRIVAL_ROWS}
    best = min(ARRIVAL_ROWS, key=lambda size: float(spent[size]))
    return partial(timed, run, items, best), {"rows a batch": best}


def _decoded(items: list[bytes], size: int) -> Iterator[Batch]:
    for start in range(0, len(items), size):
        yield _batch(items[start : start + size])


def _batch(items: list[bytes]) -> Batch:
    return padded([unpacked(item) for item in items])


def _all_computed(network: Any, batches: Iterator[Batch]) -> int:
    import torch

    torch.set_num_threads(1)
    return sum(len(compute(network, batch)) for batch in batches)


def _parts(pairing: bool = True) -> list[Any]:
    """What the scorer plans, not decoded yet."""
    import pyarrow as pa

    from batch_assets.inference.sequences.lengths import rows_within
    from batch_assets.inference.sequences.planning import plan
    from batch_assets.inference.sequences.windows import Encoded, Windows

    rows = _items()
    if not pairing:
        rows = rows.set_column(2, "cost", pa.array([0] * len(rows)))
    windows = Windows("item", FEATURES, Encoded(unpacked, "steps", "cost"), [], 64, 2**25)
    return [
        part
        for window in windows.of([rows])
        for part in plan(window, lambda length: (BATCH_STEPS, rows_within(BATCH_STEPS, length)))
    ]


def _host_alone() -> tuple[Run, Result]:
    """Decoding and padding alone."""
    from batch_assets.inference.sequences.compute import prepare

    parts = _parts()
    return partial(
        timed, lambda: sum(len(prepare(part, FEATURES).part.picked) for part in parts)
    ), {}


def _device_alone() -> tuple[Run, Result]:
    """Computing alone, of what is decoded and padded."""
    from batch_assets.inference.sequences.compute import prepare

    network = encoder()
    ready = [prepare(part, FEATURES) for part in _parts()]

    def run() -> int:
        _all_computed(network, ((one.steps, one.lengths) for one in ready))
        return sum(len(one.part.picked) for one in ready)

    return partial(timed, run), {}


def _by_cpu_seconds() -> Result:
    """How long each order takes if neither thread ever waits for a core, and what is the bound.

    From the CPU seconds of each batch, decoded and computed one after another: what else runs on
    the machine, and that there are only so many cores, has no part in it.
    """
    import torch

    from batch_assets.inference.sequences.compute import prepare

    torch.set_num_threads(1)
    network, items = encoder(), _items()["item"].to_pylist()

    def spent(batch: Callable[[], Batch]) -> tuple[float, float]:
        began = time.thread_time()
        decoded = batch()
        between = time.thread_time()
        compute(network, decoded)
        return between - began, time.thread_time() - between

    def planned(part: Any) -> Batch:
        ready = prepare(part, FEATURES)
        return ready.steps, ready.lengths

    cut = [items[start : start + 8] for start in range(0, len(items), 8)]
    orders = {
        "paired": [partial(planned, part) for part in _parts()],
        "longest first": [partial(planned, part) for part in _parts(pairing=False)],
        "in order of arrival": [partial(_batch, each) for each in cut],
    }
    for batches in orders.values():
        spent(batches[0])
    times = {name: [spent(batch) for batch in batches] for name, batches in orders.items()}
    seconds = {name: _makespan(each) for name, each in times.items()}
    bound = max(map(sum, zip(*times["paired"], strict=True)))
    return {
        **{f"seconds {name}": round(value, 3) for name, value in seconds.items()},
        "seconds at least": round(bound, 3),
        "times as fast as longest first": round(seconds["longest first"] / seconds["paired"], 2),
        "times as fast as in order of arrival": round(
            seconds["in order of arrival"] / seconds["paired"], 2
        ),
        "share of the best possible": round(bound / seconds["paired"], 2),
    }


def _makespan(batches: list[tuple[float, float]]) -> float:
    """When the last batch is computed: (host, device) seconds of each, few of them waiting."""
    begun: list[float] = []
    host = device = 0.0
    for number, (decoding, computing) in enumerate(batches):
        room = begun[number - AHEAD] if number >= AHEAD else 0.0
        host = max(host, room) + decoding
        begun.append(max(device, host))
        device = begun[-1] + computing
    return device
