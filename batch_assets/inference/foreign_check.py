"""Whether a model that was made elsewhere does what the scorer counts on, on a sample of rows."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from batch_assets.inference.compute import is_out_of_memory
from batch_assets.inference.foreign import ForeignNetwork
from batch_assets.inference.foreign_card import CHANGES_STATE, ForeignModelError, first_line
from batch_assets.inference.precision import modes

# The most by which a score may move when its row stands in another batch or place.
TOLERANCE = 1e-5
_SEED = 0


@dataclass(frozen=True)
class Checked:
    """What was found on a sample of n rows.

    Attributes:
        scores: float32 [n], probabilities.
        vectors: what the vectors are, in words.
        notes: what works, and a person should know.
    """

    scores: np.ndarray
    vectors: str
    notes: tuple[str, ...]


def check_on(network: ForeignNetwork, rows: np.ndarray, device: torch.device) -> Checked:
    """Run the network on rows, float32 [n, features], n > 1.

    Gives it a projection first, if its embedding is wider than its vectors.

    Raises ForeignModelError when it does not run, gives something else than finite probabilities
    and vectors, or other ones for the same row in another batch, in another place, or again.
    """
    sample = torch.from_numpy(rows).to(device)
    try:
        with modes(device, False):
            width = _checked_width(network, sample)
        if width > network.size:
            network.project(projection(width, network.size))
        with modes(device, False):
            scores = _checked_scores(network, sample)
    except ForeignModelError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ForeignModelError(
            f"it does not run on {len(rows)} rows of features: {first_line(error)}"
        ) from error
    found = scores.float().cpu().numpy()
    return Checked(found, _vectors(network, width), tuple(_notes(network, found)))


def projection(width: int, size: int) -> Tensor:
    """A map of float32 [n, width] to [n, size] that about keeps distances, always the same.

    Random and Gaussian (Johnson and Lindenstrauss 1984): a distance is off by about
    ``1 / sqrt(2 * size)`` of it.
    """
    random = np.random.default_rng(_SEED).standard_normal((width, size))
    return torch.from_numpy((random / math.sqrt(size)).astype(np.float32))


def _checked_scores(network: ForeignNetwork, sample: Tensor) -> Tensor:
    count, before = len(sample), [values.clone() for values in _state(network)]
    results: tuple[Tensor, Tensor] = network(sample)
    after = _state(network)
    if not all(_equal(old, new) for old, new in zip(before, after, strict=True)):
        raise ForeignModelError(CHANGES_STATE)
    _check_values(*results)
    _check_same(results, network(sample), "a second time", tolerance=0.0)
    scores, vectors = network(sample.flip(0))
    _check_same(results, (scores.flip(0), vectors.flip(0)), "in another place")
    for size in (1, count // 2):
        part = (results[0][:size], results[1][:size])
        _check_same(part, network(sample[:size]), f"among {size} rows")
    return results[0]


def _state(network: ForeignNetwork) -> list[Tensor]:
    return [*network.program.parameters(), *network.program.buffers()]


def _equal(old: Tensor, new: Tensor) -> bool:
    return torch.allclose(old, new, rtol=0.0, atol=0.0, equal_nan=True)


def _checked_width(network: ForeignNetwork, sample: Tensor) -> int:
    """Length of the embedding, once the outputs have the shapes that they should."""
    scaled = network.scaled(sample)
    outputs = network.outputs(scaled)
    count = len(sample)
    score = outputs[0]
    if tuple(score.shape) not in ((count,), (count, 1), (count, 2)):
        raise ForeignModelError(
            f"the score of {count} rows has the shape {list(score.shape)}: it has to be [rows], "
            "[rows, 1], or [rows, 2] with fraud second; name another output as score in the card"
        )
    for what, values in zip(("score", "embedding"), outputs, strict=False):
        if not values.is_floating_point():
            raise ForeignModelError(
                f"the {what} is {str(values.dtype).removeprefix('torch.')}, not a float: name "
                f"another output as {what} in the card"
            )
    embedded = network.embedded(scaled, outputs)
    if embedded.dim() != 2 or len(embedded) != count:
        raise ForeignModelError(
            f"the embedding of {count} rows has the shape {list(embedded.shape)}: it has to be "
            "[rows, size]; name another output as embedding in the card, or none"
        )
    return embedded.shape[1]


def _check_values(scores: Tensor, vectors: Tensor) -> None:
    for what, values in (("score", scores), ("vector", vectors)):
        wrong = ~torch.isfinite(values.reshape(len(values), -1)).all(1)
        if wrong.any():
            raise ForeignModelError(
                f"the {what} of {int(wrong.sum())} of {len(values)} rows is not finite: check the "
                "scaling in the card (log1p of what is below -1, missing values)"
            )
    low, high = float(scores.min()), float(scores.max())
    if low < 0.0 or high > 1.0:
        raise ForeignModelError(
            f"scores go from {low:.4g} to {high:.4g} and are no probabilities: put `output: logit` "
            "into the card if they are logits, or name another output as score"
        )


def _check_same(
    results: tuple[Tensor, Tensor],
    others: tuple[Tensor, Tensor],
    when: str,
    tolerance: float = TOLERANCE,
) -> None:
    (scores, vectors), (other_scores, other_vectors) = results, others
    moved = float((scores - other_scores).abs().max())
    largest = max(1.0, float(vectors.abs().max()))
    turned = float((vectors - other_vectors).abs().max()) / largest
    if not max(moved, turned) <= tolerance:
        raise ForeignModelError(
            f"the same rows get other results {when} (scores move by up to {moved:.2g}, vectors "
            f"by up to {turned:.2g} of the largest number): a row must not depend on chance or on "
            "the rows beside it; export in evaluation mode, without dropout or batch statistics"
        )


def _vectors(network: ForeignNetwork, width: int) -> str:
    source = "embedding" if network.card.embedding is not None else "scaled features"
    if width > network.size:
        return f"{source}, {width} numbers projected to {network.size}"
    return f"{source}, {width} numbers filled up to {network.size}"


def _notes(network: ForeignNetwork, scores: np.ndarray) -> list[str]:
    program, notes = network.program, []
    if program.least == program.most:
        rows = f"{program.most} row" + "s" * (program.most > 1)
        notes.append(
            f"exported for {rows} at a time, so batches are cut and filled up to that: export "
            "with a dynamic number of rows to score faster"
        )
    if scores.min() == scores.max():
        notes.append(f"every row of the sample has the score {scores[0]:.4g}")
    elif np.median(scores) > 0.5:
        notes.append(
            f"half of the sample scores above {np.median(scores):.2f}: check that a high score "
            "means fraud"
        )
    return notes
