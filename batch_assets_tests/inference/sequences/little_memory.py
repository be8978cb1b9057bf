"""A process of its own that scores sequences with less memory than its first batches need.

Called with the tuning file, the number of sequences and the MiB to leave free (0: no limit);
prints as JSON what happened and a hash of the result.
"""

import hashlib
import json
import resource
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn import functional

from batch_assets.inference.sequences.scoring import SequenceScorer
from batch_assets.inference.sequences.windows import sequence_array
from batch_assets.inference.stats import EngineStats
from batch_assets.inference.tuning import Tuning
from batch_assets_tests.inference.little_memory import address_space

FEATURES = 4
WIDTH = 32_768  # 128 KiB a step, so that 4,096 steps take 512 MiB, and 256 steps 32 MiB


class Wide(nn.Module):
    """Needs much memory a step, and little time."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.wide = nn.Linear(FEATURES, WIDTH)
        self.narrow = nn.Linear(WIDTH, 8)

    def forward(self, steps: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        states = self.narrow(functional.relu_(self.wide(steps)))
        real = torch.arange(steps.shape[1], 0, -1) <= lengths.unsqueeze(1)
        vectors = states.masked_fill(~real.unsqueeze(-1), 0.0).sum(1)
        return vectors.sum(1), vectors


def main(tuning: Path, sequences: int, free_mib: int) -> None:
    random = np.random.default_rng(2)
    lengths = random.choice([0, 5, 20, 40], sequences)
    values = random.normal(size=(int(lengths.sum()), FEATURES))
    column = sequence_array(values, np.concatenate([[0], np.cumsum(lengths)]))
    scorer = SequenceScorer(
        Wide(), "steps", FEATURES, device="cpu", threads=1, tuning=Tuning(tuning, "wide")
    )
    if free_mib:
        limit = address_space() + free_mib * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    stats = EngineStats()
    digest = hashlib.sha256()
    for batch in scorer.score([pa.record_batch({"steps": column})], stats=stats):
        digest.update(batch["score"].to_numpy().tobytes())
        digest.update(batch["vector"].flatten().to_numpy().tobytes())
    print(
        json.dumps(
            {
                "rows": stats.rows,
                "batch_steps": scorer.budgets.steps[64],
                "out_of_memory": stats.out_of_memory,
                "digest": digest.hexdigest(),
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
