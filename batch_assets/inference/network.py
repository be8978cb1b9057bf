"""A small network over numeric columns, each one encoded piecewise linearly.

The encoding follows Gorishniy et al. 2022, "On Embeddings for Numerical Features in Tabular Deep
Learning": a value becomes, for each bin of its feature, how much of that bin lies below it. A
linear map per feature then makes a few dimensions of that. On tables it decides more than depth.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from batch_assets.errors import BatchAssetsError

BINS = 25
ENCODED = 6
HIDDEN = 192
EMBEDDING = 64
# Edges end here, so that the width of a bin is finite in float32.
LARGEST = np.float32(1e37)


def bin_edges(values: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Edges that cut one feature's values into at most ``bins`` bins of about equal weight.

    ``values`` is [n] of any float type; NaN and infinities are left out, and what lies beyond
    1e37 counts as that. A value that holds more
    than one bin's share of the rows is an edge by itself, and the others are cut by quantiles: a
    share that is 0 for nearly all rows keeps its resolution above 0. Returns float32 [1..bins+1],
    strictly increasing; a constant feature has one edge, a feature without any value the edge 0.
    """
    known = values[np.isfinite(values)].astype(np.float32).clip(-LARGEST, LARGEST)
    if not known.size:
        return np.zeros(1, dtype=np.float32)
    distinct, counts = np.unique(known, return_counts=True)
    if distinct.size <= bins + 1:
        return distinct
    heavy = distinct[counts * bins > known.size]
    light = known[~np.isin(known, heavy)]
    # Never fewer than half of the edges for what is not heavy, and the two ends always.
    room = bins - 1 - heavy.size
    heavy = heavy if room > 1 else heavy[:0]
    light = light if heavy.size else known
    shares = np.linspace(0.0, 1.0, max(room, 2) if heavy.size else bins + 1)
    cuts = np.quantile(light, shares, method="lower")
    ends = distinct[[0, -1]]
    return np.unique(np.concatenate([heavy, cuts, ends]).astype(np.float32))


def _balanced(values: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """The values, the positives' so often that there are about as many of them as of the others."""
    count = int(positive.sum())
    times = max(1, (len(values) - count) // count) if count else 1
    return np.concatenate([values[~positive], np.repeat(values[positive], times)])


class TabularNetwork(nn.Module):
    """Score and embedding of rows of numeric features; knows nothing of what they mean.

    Each feature goes through its bins and ``encoded`` dimensions, all of them through
    ``hidden`` and ``embedding`` units (the embedding) to one logit. What a value means:

    - NaN (missing) counts as the feature's median in the training rows;
    - a value outside the training range counts as the nearest end of it, infinities too;
    - a feature that was constant in training has no influence.

    All that scoring needs is in ``state_dict()``: bins and fill values are buffers.
    """

    lowest: Tensor
    highest: Tensor
    fill: Tensor
    left: Tensor
    inverse_width: Tensor

    def __init__(
        self,
        features: int,
        *,
        bins: int = BINS,
        encoded: int = ENCODED,
        hidden: int = HIDDEN,
        embedding: int = EMBEDDING,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        for name, shape in {
            "lowest": (features,),
            "highest": (features,),
            "fill": (features,),
            "left": (features, bins),
            "inverse_width": (features, bins),
        }.items():
            self.register_buffer(name, torch.zeros(shape))
        self.encoding_weight = nn.Parameter(torch.empty(features, bins, encoded))
        self.encoding_bias = nn.Parameter(torch.empty(features, encoded))
        # Small: what a bin means is learnt, not what chance put there (worth .03 to .04 of
        # average precision on card fraud against weights of order one).
        nn.init.uniform_(self.encoding_weight, -0.1, 0.1)
        nn.init.uniform_(self.encoding_bias, -0.1, 0.1)
        self.hidden = nn.Linear(features * encoded, hidden)
        self.embedding = nn.Linear(hidden, embedding)
        self.output = nn.Linear(embedding, 1)
        self.dropout = dropout

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "TabularNetwork":
        """The network that ``state_dict()`` gave; sizes are read from the tensors' shapes.

        Raises BatchAssetsError when tensors are missing, too many, or do not fit together.
        """
        try:
            features, bins, encoded = tensors["encoding_weight"].shape
            network = cls(
                features,
                bins=bins,
                encoded=encoded,
                hidden=tensors["hidden.weight"].shape[0],
                embedding=tensors["embedding.weight"].shape[0],
            )
            network.load_state_dict(dict(tensors))
        except (KeyError, ValueError, RuntimeError) as error:
            raise BatchAssetsError(
                f"These tensors are not a tabular network ({error}). "
                "Train the model again, or load another version."
            ) from error
        return network.eval()

    def fit_encoding(self, rows: np.ndarray, labels: np.ndarray | None = None) -> None:
        """Set each feature's bins, range and fill value from rows, float32 [n, features].

        With ``labels``, [n], 1 for a positive, both classes weigh the same where bins are cut:
        rare positives often lie far out, where hardly a bin of equal weight would end (worth .045
        of average precision on card fraud with seven days of training).
        """
        for feature, values in enumerate(rows.T):
            weighed = values if labels is None else _balanced(values, labels > 0)
            edges = torch.from_numpy(bin_edges(weighed, self.left.shape[1]))
            widths = edges[1:] - edges[:-1]
            used = len(widths)
            self.left[feature] = edges[-1]
            self.left[feature, :used] = edges[:-1]
            self.inverse_width[feature] = 0.0
            # Bounded, as the inverse of the smallest widths is infinite, and 0 times that is NaN.
            self.inverse_width[feature, :used] = (1.0 / widths).clamp(max=float(LARGEST))
            self.lowest[feature], self.highest[feature] = edges[0], edges[-1]
            known = values[np.isfinite(values)]
            median = np.quantile(known, 0.5, method="lower") if known.size else 0.0
            self.fill[feature] = float(median)

    def encode(self, rows: Tensor) -> Tensor:
        """Rows [n, features] as the share of each bin that lies below them, [n, features, bins]."""
        rows = torch.where(torch.isnan(rows), self.fill, rows)
        rows = torch.clamp(rows, self.lowest, self.highest)
        return (rows.unsqueeze(-1) - self.left).mul_(self.inverse_width).clamp_(0.0, 1.0)

    def logits(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Logit [n] and embedding [n, embedding] of rows [n, features].

        Embeddings have length 1 (0 where no unit answers): how far apart two are then says how
        alike the answers are, and not how strong, which the score says already.
        """
        encoded = torch.bmm(self.encode(rows).transpose(0, 1), self.encoding_weight)
        encoded = (encoded.transpose(0, 1) + self.encoding_bias).flatten(1)
        hidden = functional.relu(self.hidden(self._drop(encoded)))
        embedding = functional.relu(self.embedding(self._drop(hidden)))
        logit = self.output(self._drop(embedding)).squeeze(-1)
        return logit, functional.normalize(embedding, dim=1)

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Probability [n] and embedding [n, embedding] of rows, float32 [n, features]."""
        logit, embedding = self.logits(rows)
        return torch.sigmoid(logit), embedding

    def _drop(self, values: Tensor) -> Tensor:
        return functional.dropout(values, self.dropout, self.training)
