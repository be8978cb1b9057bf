"""A small transformer over histories: for each one a probability and an embedding.

Pre-norm encoder layers (Vaswani et al. 2017, "Attention Is All You Need"; the norm stands first as
in Xiong et al. 2020, "On Layer Normalization in the Transformer Architecture").
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from batch_assets.errors import BatchAssetsError

WIDTH = 64
LAYERS = 2
HEADS = 4
EMBEDDING = 64
# Recency is told apart finely for the newest steps and by its logarithm further back: this many
# classes for each doubling, and as many in all as 2**16 steps need.
CLASSES_A_DOUBLING = 4
RECENCIES = 16 * CLASSES_A_DOUBLING + 1
# A value further from the mean than this many standard deviations counts as that far.
LARGEST = 10.0
# The last layers see rows in multiples of this, so that no bit depends on how many there are.
ROW_STEP = 256


class HistoryEncoder(nn.Module):
    """Probability and embedding of histories, each a number of steps of numeric features.

    Histories stand at the end of their rows, the newest step last, after padding that never
    influences the result: it is masked, whatever it holds. Positions count from the newest step
    back. The embedding is made of the newest step's state and the mean of all states. What a value
    means:

    - NaN (missing) counts as the feature's mean in the training steps;
    - a value far outside of the training range counts as ten standard deviations;
    - a history without steps has the embedding of nothing, always the same.

    All that scoring needs is in ``state_dict()``: means and scales are buffers.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        features: int,
        *,
        width: int = WIDTH,
        layers: int = LAYERS,
        heads: int = HEADS,
        embedding: int = EMBEDDING,
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.register_buffer("heads", torch.tensor(heads))
        self.project = nn.Linear(features, width)
        self.recency = nn.Embedding(RECENCIES, width)
        self.layers = nn.ModuleList(_Layer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.embedding = nn.Linear(2 * width, embedding)
        self.output = nn.Linear(embedding, 1)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "HistoryEncoder":
        """The network that ``state_dict()`` gave; sizes are read from the tensors.

        Raises BatchAssetsError when tensors are missing, too many, or do not fit together.
        """
        try:
            width, features = tensors["project.weight"].shape
            network = cls(
                features,
                width=width,
                layers=sum(name.endswith(".attend.weight") for name in tensors),
                heads=int(tensors["heads"]),
                embedding=tensors["embedding.weight"].shape[0],
            )
            network.load_state_dict(dict(tensors))
        except (KeyError, ValueError, RuntimeError) as error:
            raise BatchAssetsError(
                f"These tensors are not a history encoder ({error}). "
                "Train the model again, or load another version."
            ) from error
        return network.eval()

    def fit_scaling(self, steps: np.ndarray) -> None:
        """Set each feature's mean and scale from steps of histories, float32 [n, features]."""
        steps = np.where(np.isfinite(steps), steps, np.nan).astype(np.float64)
        for feature, values in enumerate(steps.T):
            known = values[~np.isnan(values)]
            deviation = float(known.std()) if known.size else 0.0
            self.mean[feature] = float(known.mean()) if known.size else 0.0
            self.scale[feature] = 1.0 / deviation if deviation > 0 else 0.0

    def logits(self, steps: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Logit [n] and embedding [n, embedding] of what ``forward`` takes; for training."""
        logit, embedding = self._padded_logits(steps, lengths)
        return logit[: len(steps)], embedding[: len(steps)]

    def forward(self, steps: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Probability [n] and embedding [n, embedding].

        Args:
            steps: float32 [n, length, features], padding first, the newest step last.
            lengths: int64 [n], real steps of each row, 0 to ``length``.
        """
        logit, embedding = self._padded_logits(steps, lengths)
        # Cut last: the end of an array that is no multiple of a vector is computed in another way.
        return torch.sigmoid(logit)[: len(steps)], embedding[: len(steps)]

    def _padded_logits(self, steps: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Logit and embedding, with rows up to a multiple of 256."""
        length = steps.shape[1]
        back = torch.arange(length - 1, -1, -1, device=steps.device)
        real = back < lengths.unsqueeze(1)
        values = torch.nan_to_num((steps - self.mean) * self.scale, nan=0.0)
        values = values.clamp_(-LARGEST, LARGEST).masked_fill_(~real.unsqueeze(-1), 0.0)
        classes = (CLASSES_A_DOUBLING * torch.log2(1.0 + back)).long().clamp_(max=RECENCIES - 1)
        states = self.project(values) + self.recency(classes)
        # Where nothing is real, one step of padding is looked at: a softmax over nothing is NaN.
        seen = real | (back == 0)
        mask = seen[:, None, None, :]
        for layer in self.layers:
            states = layer(states, mask)
        states = self.norm(states).masked_fill(~real.unsqueeze(-1), 0.0)
        count = lengths.clamp(min=1).unsqueeze(1)
        pooled = torch.cat([states[:, -1], states.sum(1) / count], dim=1)
        pooled = functional.pad(pooled, (0, 0, 0, -len(pooled) % ROW_STEP))
        embedding = functional.relu(self.embedding(pooled))
        return self.output(embedding).squeeze(-1), embedding


class _Layer(nn.Module):
    """Self-attention, then a position-wise network, each added to what came in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{width} units cannot be shared by {heads} heads")
        self.heads = heads
        self.attend_norm = nn.LayerNorm(width)
        self.attend = nn.Linear(width, 3 * width)
        self.attended = nn.Linear(width, width)
        self.widen_norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        n, length, width = states.shape
        parts = self.attend(self.attend_norm(states)).view(n, length, 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        states = states + self.attended(attended.transpose(1, 2).reshape(n, length, width))
        return states + self.narrow(functional.gelu(self.widen(self.widen_norm(states))))
