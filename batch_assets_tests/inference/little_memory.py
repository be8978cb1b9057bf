"""A process of its own that scores with less memory than its first batch size needs.

Called with the tuning file, the number of rows and the MiB to leave free (0: no limit); prints as
JSON what happened and a hash of the result.
"""

import hashlib
import json
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn import functional

from batch_assets.inference import planned
from batch_assets.inference.memory import memory_budget
from batch_assets.inference.plan import PlanChanged
from batch_assets.inference.scoring import Scorer
from batch_assets.inference.stats import EngineStats
from batch_assets.inference.tuning import Tuning

FEATURES = ["a", "b", "c", "d"]
WIDTH = 16_384  # 64 KiB a row, so that 16,384 rows take 1 GiB, and 256 rows 16 MiB


class Wide(nn.Module):
    """Needs much memory a row, and little time."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.wide = nn.Linear(len(FEATURES), WIDTH)
        self.narrow = nn.Linear(WIDTH, 8)

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        vectors = self.narrow(functional.relu(self.wide(rows)))
        return torch.sigmoid(vectors.sum(1)), vectors


def address_space() -> int:
    """Bytes of address space in use."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def batches(rows: int) -> Iterator[pa.RecordBatch]:
    random = np.random.default_rng(2)
    yield pa.record_batch({name: random.normal(size=rows) for name in FEATURES})


def main(tuning: Path, rows: int, free_mib: int) -> None:
    planned.BLOCK_SECONDS = 3600.0  # so that memory alone bounds a batch
    scorer = Scorer(Wide(), FEATURES, device="cpu", threads=1, tuning=Tuning(tuning, "wide"))
    if free_mib:
        limit = address_space() + free_mib * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    stats, changes = EngineStats(), 0
    while True:
        done, digest = EngineStats(), hashlib.sha256()
        try:
            for batch in scorer.score(batches(rows), stats=done):
                digest.update(batch["score"].to_numpy().tobytes())
                digest.update(batch["vector"].flatten().to_numpy().tobytes())
        except PlanChanged:
            changes += 1
            continue
        finally:
            stats.add(done)
        break
    print(
        json.dumps(
            {
                "rows": stats.rows,
                "batch_rows": stats.batch_rows,
                "out_of_memory": stats.out_of_memory,
                "changes": changes,
                "memory": memory_budget(scorer.device),
                "digest": digest.hexdigest(),
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
