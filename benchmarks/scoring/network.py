"""The network that all engines score with: 64-256-128-64-1. Needs numpy, pyarrow and torch only."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn import functional

ID = "id"
FEATURES = tuple(f"f{number:02}" for number in range(64))
# Name of the column that has all features, in the other form of the input.
LISTS = "features"
LAYERS = (64, 256, 128, 64)
VECTOR_SIZE = LAYERS[-1]
# What peers compute at once.
MICRO_BATCH = 4096
VECTORS = pa.list_(pa.float32(), VECTOR_SIZE)
# How pyarrow writes the results, whoever calls it: floats have no use for dictionaries, and nobody
# looks for a vector by its smallest number.
PARQUET: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 1,
    "use_dictionary": False,
    "write_statistics": [ID],
}
RESULTS = pa.schema([(ID, pa.int64()), ("score", pa.float32()), ("vector", VECTORS)])


class Network(nn.Module):
    """Probability [n] and embedding [n, 64] of rows, float32 [n, 64]."""

    def __init__(self) -> None:
        super().__init__()
        pairs = itertools.pairwise(LAYERS)
        self.layers = nn.ModuleList(nn.Linear(wide, narrow) for wide, narrow in pairs)
        self.output = nn.Linear(VECTOR_SIZE, 1)

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Score and embed; the embedding is what the last layer sees."""
        for layer in self.layers:
            rows = functional.relu(layer(rows), inplace=True)
        return torch.sigmoid(self.output(rows)).squeeze(-1), rows


def save_network(path: Path) -> None:
    """Random weights, the same each time."""
    torch.manual_seed(0)
    torch.save(Network().state_dict(), path)


def load_network(path: str | Path) -> Network:
    """The network that was saved, ready to score."""
    network = Network()
    network.load_state_dict(torch.load(path, weights_only=True))
    return network.eval()


def score(network: Network, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores float32 [n] and vectors float32 [n, 64] of float32 [n, 64], in micro-batches."""
    scores = np.empty(len(rows), np.float32)
    vectors = np.empty((len(rows), VECTOR_SIZE), np.float32)
    with torch.inference_mode():
        for start in range(0, len(rows), MICRO_BATCH):
            part = slice(start, start + MICRO_BATCH)
            found = network(torch.from_numpy(rows[part]))
            scores[part], vectors[part] = (result.numpy() for result in found)
    return scores, vectors


def matrix(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Columns [n] as float32 [n, columns]."""
    rows = np.empty((len(columns[0]), len(columns)), np.float32)
    for position, column in enumerate(columns):
        rows[:, position] = column
    return rows


def score_batch(network: Network, batch: pa.RecordBatch | pa.Table) -> pa.RecordBatch:
    """Ids, scores and vectors of rows with the columns ``id`` and ``FEATURES``."""
    rows = matrix([batch.column(name).to_numpy(zero_copy_only=False) for name in FEATURES])
    scores, vectors = score(network, rows)
    ids = batch.column(ID)
    ids = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    return pa.RecordBatch.from_arrays(
        [ids, pa.array(scores), vector_array(vectors)], schema=RESULTS
    )


def vector_array(vectors: np.ndarray) -> pa.Array:
    """float32 [n, 64] as a fixed-size list, without a copy."""
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), VECTOR_SIZE)
