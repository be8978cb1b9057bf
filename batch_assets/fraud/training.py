"""Training of the fraud model: feature rows and labels in, tensors and a card out.

Nothing is read or stored here. The same rows, in any order, with the same options and seed give
the same tensors, bit for bit, on the same kind of CPU and any number of cores.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import torch
from sklearn.metrics import precision_recall_curve, roc_auc_score
from torch import Tensor

from batch_assets.errors import BatchAssetsError
from batch_assets.inference.batches import feature_matrix
from batch_assets.inference.fitting import Epoch, Examples, FitOptions, fit, predict
from batch_assets.inference.network import TabularNetwork

KIND = "tabular_network"
FEWEST_EPOCHS = 5
"""Of the last training: the best epoch on few validation days is often too early by chance."""
Column: TypeAlias = "pa.Array | pa.ChunkedArray | np.ndarray"


class NotEnoughFraudsError(BatchAssetsError):
    """The rows do not hold enough frauds (or genuine rows) to learn from."""


@dataclass(frozen=True)
class TrainingOptions:
    """What is held out, and how the network is fitted.

    The last days, ``validation_share`` of them and one at least, say how many epochs are best;
    then the network is trained for so many on all days, as the newest frauds teach most (average
    precision +.006 with seven days). Both sets have ``minimum_frauds`` frauds at least.
    """

    validation_share: float = 0.15
    minimum_frauds: int = 3
    fit: FitOptions = field(default_factory=FitOptions)


@dataclass(frozen=True)
class Progress:
    """Epochs done of all that may come, and the last one's mean loss."""

    done: int
    total: int
    loss: float
    average_precision: float | None


@dataclass(frozen=True)
class _Rows:
    """Inputs float32 [n, features], labels float32 [n], days datetime64[D] [n], in one order."""

    inputs: np.ndarray
    labels: np.ndarray
    days: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def frauds(self) -> int:
        return int(self.labels.sum())

    def chosen(self, which: np.ndarray) -> "_Rows":
        return _Rows(self.inputs[which], self.labels[which], self.days[which])

    def examples(self) -> Examples:
        return Examples(self.inputs, self.labels)


def train(
    features: pa.Table,
    labels: Column,
    days: Column,
    *,
    feature_names: Sequence[str],
    name: str = "fraud_model",
    seed: int = 0,
    genuine_kept: float = 1.0,
    options: TrainingOptions | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Train a TabularNetwork; return its tensors and the card that ModelStore.save takes.

    ``features`` holds the columns ``feature_names`` (numbers, nulls allowed; others are ignored),
    ``labels`` is true or 1 for a fraud, ``days`` a date a row; all n long, in any order. A caller
    that left out genuine rows at random says which share it kept (``genuine_kept``, above 0), and
    scores stay probabilities. ``progress`` is called after each epoch.

    Raises NotEnoughFraudsError, and BatchAssetsError for wrong columns, lengths or labels.
    """
    options = options or TrainingOptions()
    started = time.perf_counter()
    rows = _prepare(features, labels, days, feature_names)
    held_out = _validation_rows(rows, options, seed)
    network, metrics = _fit_twice(rows, held_out, options, seed, progress)
    with torch.no_grad():
        # Odds among the rows kept are higher than among all by what was left out.
        network.output.bias.add_(float(np.log(genuine_kept)))
    card: dict[str, Any] = {
        "name": name,
        "kind": KIND,
        "features": list(feature_names),
        "scaling": _scaling(network, feature_names),
        "embedding_size": options.fit.embedding,
        "training_days": _day_range(rows.days),
        "training_rows": len(rows),
        "training_frauds": rows.frauds,
        "genuine_kept": genuine_kept,
        "hyper_parameters": asdict(options),
        "seed": seed,
        "code_version": code_version(),
        "metrics": metrics,
        "training_seconds": round(time.perf_counter() - started, 3),
    }
    return {key: value.clone() for key, value in network.state_dict().items()}, card


def code_version() -> str:
    """Version of the installed package, "unknown" where it is not installed."""
    try:
        return version("batch_assets")
    except PackageNotFoundError:
        return "unknown"


def _prepare(
    features: pa.Table, labels: Column, days: Column, feature_names: Sequence[str]
) -> _Rows:
    """Check the columns and sort the rows by their content, so that their order leaves no trace."""
    if not len(features) == len(labels) == len(days):
        raise BatchAssetsError(
            f"Training needs a label and a day for each row, but got {len(features)} rows, "
            f"{len(labels)} labels and {len(days)} days."
        )
    if not len(features):
        raise NotEnoughFraudsError(
            "There are no rows to train on. Choose days that have transactions and known labels."
        )
    inputs = np.concatenate(
        [feature_matrix(batch, feature_names) for batch in features.to_batches()]
    )
    truth = np.asarray(labels).astype(np.float32)
    if not np.isin(truth, (0.0, 1.0)).all():
        raise BatchAssetsError("A label is neither 0 nor 1. Leave out rows without a known label.")
    rows = _Rows(inputs, truth, np.asarray(days).astype("datetime64[D]"))
    return rows.chosen(np.lexsort([*inputs.T, truth, rows.days]))


def _validation_rows(rows: _Rows, options: TrainingOptions, seed: int) -> np.ndarray:
    """Which rows are held out, bool [n]: the last days, or rows at random if too few days."""
    least = options.minimum_frauds
    genuine = len(rows) - rows.frauds
    if min(rows.frauds, genuine) < 2 * least:
        raise NotEnoughFraudsError(
            f"The {len(rows)} rows from {rows.days.min()} to {rows.days.max()} hold {rows.frauds} "
            f"frauds and {genuine} genuine transactions; training needs at least {2 * least} of "
            "each. Choose more days, or days whose labels are known."
        )
    all_days = np.unique(rows.days)
    fewest = max(1, round(len(all_days) * options.validation_share))
    for count in range(fewest, len(all_days) // 2 + 1):
        held_out = rows.days >= all_days[-count]
        if min(_rarest(rows.labels[held_out]), _rarest(rows.labels[~held_out])) >= least:
            return held_out
    held_out = np.zeros(len(rows), dtype=bool)
    random = np.random.default_rng(seed)
    for label in (0.0, 1.0):
        places = random.permutation(np.flatnonzero(rows.labels == label))
        held_out[places[: max(least, round(len(places) * options.validation_share))]] = True
    return held_out


def _rarest(labels: np.ndarray) -> int:
    """Rows of the class that has fewer of them."""
    return int(min(labels.sum(), len(labels) - labels.sum()))


def _fit_twice(
    rows: _Rows,
    held_out: np.ndarray,
    options: TrainingOptions,
    seed: int,
    progress: Callable[[Progress], None] | None,
) -> tuple[TabularNetwork, dict[str, Any]]:
    """The network trained on all rows, and what validation said of one without the last days."""
    done = 0

    def tell(epoch: Epoch) -> None:
        nonlocal done
        done += 1
        if progress:
            total = done + epoch.epochs - epoch.epoch + (0 if final else options.fit.epochs)
            progress(Progress(done, total, epoch.loss, epoch.average_precision))

    final = False
    validation = rows.chosen(held_out)
    network, curve = fit(
        rows.chosen(~held_out).examples(),
        validation.examples(),
        seed=seed,
        options=options.fit,
        progress=tell,
    )
    scores = predict(network, validation.inputs)
    best = max(curve, key=lambda epoch: epoch.average_precision or 0.0)
    epochs = min(max(best.epoch, FEWEST_EPOCHS), options.fit.epochs)
    final = True
    network, _ = fit(
        rows.examples(),
        None,
        seed=seed,
        options=replace(options.fit, epochs=epochs),
        progress=tell,
    )
    return network, {
        "validation_days": _day_range(validation.days),
        "validation_rows": len(validation),
        "validation_frauds": validation.frauds,
        "validation_average_precision": best.average_precision,
        "validation_auc": float(roc_auc_score(validation.labels, scores)),
        "precision_by_recall": precision_by_recall(validation.labels, scores),
        "best_epoch": best.epoch,
        "epochs": epochs,
        "learning_curve": [asdict(epoch) for epoch in curve],
    }


def precision_by_recall(labels: np.ndarray, scores: np.ndarray) -> list[list[float]]:
    """Recall (.05, .10, ... 1) and the best precision with which at least that much is found."""
    precision, recall, _ = precision_recall_curve(labels, scores)
    return [
        [step / 20, round(float(precision[recall >= step / 20 - 1e-9].max()), 4)]
        for step in range(1, 21)
    ]


def _scaling(network: TabularNetwork, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """For each feature the edges of its bins and what stands for a missing value, to be read."""
    scaling = {}
    for index, name in enumerate(names):
        used = network.inverse_width[index] > 0
        edges = [*network.left[index][used].tolist(), float(network.highest[index])]
        scaling[name] = {"edges": edges, "missing": float(network.fill[index])}
    return scaling


def _day_range(days: np.ndarray) -> dict[str, Any]:
    distinct = np.unique(days)
    return {"first": str(distinct[0]), "last": str(distinct[-1]), "count": len(distinct)}
