"""The embedding cache: what it saves when rows come again, and what it costs when none does."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from batch_assets.inference.cache import EmbeddingCache, open_cache
from batch_assets.inference.network import TabularNetwork
from batch_assets.inference.scoring import Scorer
from batch_assets.inference.stats import EngineStats
from benchmarks.harness import Result, Watch, Work, measure

LIMIT_BYTES = 10**9
BATCH = 65_536
# Per network: features, rows of a day, rows of a batch, and how often it is measured.
NETWORKS = {
    "fraud network": (15, 262_144, 4_096, 3),
    "transformer of 6 layers": (512, 3_072, 256, 1),
}
TOKENS, WIDTH = 32, 128


class Transformer(nn.Module):
    """About a millisecond a row on a core: 512 numbers are 32 tokens of 16."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Linear(16, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)
        self.output = nn.Linear(WIDTH, 1)

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        vectors = self.layers(self.tokens(rows.unflatten(1, (TOKENS, 16)))).mean(dim=1)
        return torch.sigmoid(self.output(vectors)).squeeze(-1), vectors


def main() -> Result:
    """Each network without a cache, with it, and with ``auto``; a day after one like it."""
    return {name: network_results(name) for name in NETWORKS}


def network_results(name: str) -> Result:
    """Seconds of a day in which a share of the rows is known from the day before.

    How many times as fast it is goes by CPU seconds, which a busy machine distorts least.
    """
    cases = [("off", 0), ("on", 0), ("on", 50), ("on", 95), ("auto", 0), ("auto", 95)]
    results: Result = {}
    for mode, share in cases:
        case = f"{mode}, {share}% known" if mode != "off" else "off"
        results[case] = measure(score_days, name, mode, share, runs=1)
        if mode != "off":
            speed_up = results["off"]["cpu_seconds"] / results[case]["cpu_seconds"]
            results[case]["times_as_fast"] = round(speed_up, 2)
    return results


def score_days(name: str, mode: str, share: int) -> Work:
    """The second of two days, ``share`` percent of whose rows were in the first."""
    features, count, batch_rows, repeats = NETWORKS[name]
    names = [f"feature_{number}" for number in range(features)]
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    first = random.standard_normal((count, features), dtype=np.float32)
    second = random.standard_normal((count, features), dtype=np.float32)
    known = random.random(count) < share / 100
    second[known] = first[known]
    network: nn.Module = TabularNetwork(features) if name == "fraud network" else Transformer()
    if isinstance(network, TabularNetwork):
        network.fit_encoding(first[:10_000])
    scorer = Scorer(network, names, device="cpu", version=name, batch_rows=batch_rows)
    days = [score_second_day(scorer, first, second, mode) for _ in range(repeats)]
    return sorted(days, key=lambda work: work.more["cpu_seconds"])[repeats // 2]


def score_second_day(scorer: Scorer, first: np.ndarray, second: np.ndarray, mode: str) -> Work:
    """Score both days with a cache that is empty before; the second one counts."""
    with tempfile.TemporaryDirectory(prefix="cache-") as folder:
        run(scorer, first, open_cache(Path(folder), mode, LIMIT_BYTES, scorer.salt))
        watch, cpu = Watch(), time.process_time()
        more = run(scorer, second, open_cache(Path(folder), mode, LIMIT_BYTES, scorer.salt))
        cpu_seconds = round(time.process_time() - cpu, 3)
        return Work(len(second), watch.seconds, {"cpu_seconds": cpu_seconds, **more})


def run(scorer: Scorer, rows: np.ndarray, cache: EmbeddingCache | None) -> dict[str, Any]:
    """Score the rows; what the cache says of it."""
    stats = EngineStats()
    for _ in scorer.score(batches(rows, scorer.features), stats=stats, known=cache):
        pass
    if cache is None:
        return {}
    cache.close()
    report = cache.report()
    costs = {key: report[key] for key in report if key.endswith("_us_per_row")}
    return {"rows_reused": stats.reused, "pays": "yes" if report["pays"] else "no", **costs}


def batches(rows: np.ndarray, names: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    """Record batches of the rows."""
    for start in range(0, len(rows), BATCH):
        columns = [pa.array(column) for column in rows[start : start + BATCH].T]
        yield pa.record_batch(columns, names=list(names))
