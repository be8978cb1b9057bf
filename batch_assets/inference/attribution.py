"""Which inputs moved a score: Shapley values against a baseline row, from sampled orders.

In each order the baseline's values are replaced by the row's, one feature after another; what the
logit moves when a feature's turn comes counts for that feature, and the mean over the orders is
its contribution (Strumbelj and Kononenko 2014, "Explaining prediction models and individual
predictions with feature contributions"; each order is used forwards and backwards).

- The contributions add up to the difference of the two logits, whatever the model is.
- Only scores are asked for, so that a model without gradients is explained in the same way.
- A linear model gets exactly what integrated gradients or replacing one feature at a time give.

Integrated gradients step over the narrow bins of a piecewise linear encoding: for 100 alerts of a
TabularNetwork of 31 features, 512 steps took 0.5 s, and a tenth of the sums missed the difference
by a quarter and more, as they did with 2,048 steps. Sixteen orders took 0.12 s, miss nothing, and
agree with 1,024 orders in 99 % of the first three features.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from batch_assets.inference.precision import one_thread

ORDERS = 16
SEED = 0
# The nearest to 0 and 1 that a probability counts, where a network gives no logit.
SMALLEST = 1e-7


@dataclass(frozen=True)
class Attribution:
    """Contributions float64 [features] of one row, and the logits that they lie between."""

    contributions: np.ndarray
    logit: float
    baseline_logit: float


def attributions(
    network: nn.Module, rows: np.ndarray, baseline: np.ndarray, orders: int = ORDERS
) -> list[Attribution]:
    """What moved the score of each row away from that of the baseline.

    A row's result does not depend on the others: each is computed by itself, in batches of one
    shape, on one thread. Memory: ``orders`` x features x features floats.

    Args:
        network: maps float32 [n, features] to (probability [n], ...), or has ``logits`` that gives
            (logit [n], ...); on the CPU, in the mode for evaluation.
        rows: float32 [n, features]; NaN is a value as any other.
        baseline: float32 [features], see :func:`baseline_row`.
        orders: how many orders, even; the cost is ``orders`` x (features + 1) rows a row.
    """
    baseline = baseline.astype(np.float32)
    taken, order = _plan(rows.shape[1], orders)
    found = []
    with one_thread(), torch.inference_mode():
        for row in rows.astype(np.float32):
            points = np.where(taken, row, baseline).reshape(-1, len(row))
            logits = _logits(network, torch.from_numpy(points)).reshape(taken.shape[:2])
            moved = np.empty(order.shape)
            np.put_along_axis(moved, order, np.diff(logits, axis=1), axis=1)
            found.append(Attribution(moved.mean(axis=0), logits[0, -1], logits[0, 0]))
    return found


def baseline_row(network: nn.Module, medians: Callable[[], np.ndarray]) -> np.ndarray:
    """What is usual, float32 [features]: the medians that the network was trained on, if it says.

    Args:
        medians: called for a network without a buffer ``fill``; NaN counts as 0.
    """
    fill = getattr(network, "fill", None)
    usual = fill.cpu().numpy() if isinstance(fill, Tensor) else medians()
    return np.nan_to_num(usual, nan=0.0).astype(np.float32)


def _plan(features: int, orders: int) -> tuple[np.ndarray, np.ndarray]:
    """Bool [orders, features + 1, features]: what is taken from the row; and the orders."""
    random = np.random.default_rng(SEED)
    half = [random.permutation(features) for _ in range(orders // 2)]
    order = np.array([one for forwards in half for one in (forwards, forwards[::-1])])
    place = np.argsort(order, axis=1)
    return place[:, None, :] < np.arange(features + 1)[None, :, None], order


def _logits(network: nn.Module, points: Tensor) -> np.ndarray:
    """Logits float64 [n]."""
    give_logits = getattr(network, "logits", None)
    if callable(give_logits):
        logits: Tensor = give_logits(points)[0]
        return logits.double().numpy()
    return torch.logit(network(points)[0].double(), SMALLEST).numpy()
