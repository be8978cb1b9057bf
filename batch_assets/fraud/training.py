"""Training of the fraud model: feature rows and labels in, tensors and a card out.

Nothing is read or stored here. The same rows, in any order, with the same options and seed give
the same tensors, bit for bit, on the same kind of CPU: rows are sorted by content first, every
random choice comes from the seed, and the number of threads is fixed (TrainingOptions.threads)
because sums are cut by it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor
from torch.nn import functional

from batch_assets.errors import BatchAssetsError
from batch_assets.inference.batches import feature_matrix
from batch_assets.inference.network import BINS, EMBEDDING, ENCODED, HIDDEN, TabularNetwork

KIND = "tabular_network"


@dataclass(frozen=True)
class TrainingOptions:
    """How to train; the defaults were chosen on 7 to 60 days of about 10,000 rows a day.

    ``epochs`` is the most that are run, ``patience`` the epochs without a better average
    precision on the validation days after which training ends. ``validation_share`` of the days,
    the last ones, at least one, are the validation days; with too few days or frauds for that, it
    is that share of the rows. ``epoch_steps`` is the most batches of an epoch, which then is
    another sample of the rows each time, so that training does not take hours on many rows.
    """

    epochs: int = 12
    epoch_steps: int = 1000
    batch_rows: int = 512
    learning_rate: float = 0.003
    encoding_learning_rate: float = 0.009
    weight_decay: float = 0.1
    patience: int = 5
    validation_share: float = 0.15
    minimum_frauds: int = 3
    bins: int = BINS
    encoded: int = ENCODED
    hidden: int = HIDDEN
    embedding: int = EMBEDDING
    threads: int = 2


@dataclass(frozen=True)
class Progress:
    """Where training is: epochs done of all, and the validation's average precision so far."""

    epoch: int
    epochs: int
    loss: float
    average_precision: float


class NotEnoughFraudsError(BatchAssetsError):
    """The rows do not hold enough frauds (or genuine rows) to learn from."""


@dataclass(frozen=True)
class _Rows:
    """Inputs float32 [n, features], labels float32 [n], days datetime64[D] [n], in one order."""

    inputs: np.ndarray
    labels: np.ndarray
    days: np.ndarray

    def __getitem__(self, chosen: np.ndarray) -> "_Rows":
        return _Rows(self.inputs[chosen], self.labels[chosen], self.days[chosen])

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def frauds(self) -> int:
        return int(self.labels.sum())


def train(
    features: pa.Table,
    labels: pa.Array | pa.ChunkedArray | np.ndarray,
    days: pa.Array | pa.ChunkedArray | np.ndarray,
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
    that left out genuine rows at random says which share it kept (``genuine_kept``), and scores
    stay probabilities. ``progress`` is called after each epoch.

    Classes as uneven as fraud need no weights with the log loss; the last layer starts at the
    frauds' share. Raises NotEnoughFraudsError, and BatchAssetsError for wrong columns or lengths.
    """
    options = options or TrainingOptions()
    started = time.perf_counter()
    rows = _prepare(features, labels, days, feature_names)
    held_out = _validation_rows(rows, options, seed)
    with _repeatable(seed, options.threads):
        network, curve = _fit(rows[~held_out], rows[held_out], options, seed, progress)
        scores = _scores(network, rows.inputs[held_out])
    with torch.no_grad():
        network.output.bias += float(np.log(genuine_kept))
    best = max(point["average_precision"] for point in curve)
    card: dict[str, Any] = {
        "name": name,
        "kind": KIND,
        "features": list(feature_names),
        "scaling": _scaling(network, feature_names),
        "embedding_size": options.embedding,
        "training_days": _day_texts(rows.days),
        "training_rows": len(rows),
        "training_frauds": rows.frauds,
        "genuine_kept": genuine_kept,
        "hyper_parameters": asdict(options),
        "seed": seed,
        "code_version": code_version(),
        "metrics": {
            "validation_days": _day_texts(rows.days[held_out]),
            "validation_rows": int(held_out.sum()),
            "validation_frauds": rows[held_out].frauds,
            "validation_average_precision": best,
            "validation_auc": float(roc_auc_score(rows.labels[held_out], scores)),
            "learning_curve": curve,
        },
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
    features: pa.Table,
    labels: pa.Array | pa.ChunkedArray | np.ndarray,
    days: pa.Array | pa.ChunkedArray | np.ndarray,
    feature_names: Sequence[str],
) -> _Rows:
    """Check the lengths and sort rows by content; equal rows are equal in any order."""
    if not len(features) == len(labels) == len(days):
        raise BatchAssetsError(
            f"Training needs a label and a day for each row, but got {len(features)} rows, "
            f"{len(labels)} labels and {len(days)} days."
        )
    if not len(features):
        raise NotEnoughFraudsError(
            "There are no rows to train on. Choose days that have transactions and known labels."
        )
    batches = features.to_batches(max_chunksize=1 << 20)
    inputs = np.concatenate([feature_matrix(batch, feature_names) for batch in batches])
    truth = _plain(labels).astype(np.float32)
    if not np.isin(truth, (0.0, 1.0)).all():
        raise BatchAssetsError("A label is neither 0 nor 1. Leave out rows without a known label.")
    rows = _Rows(inputs, truth, _plain(days).astype("datetime64[D]"))
    return rows[np.lexsort([*inputs.T, truth, rows.days])]


def _plain(values: pa.Array | pa.ChunkedArray | np.ndarray) -> np.ndarray:
    if isinstance(values, np.ndarray):
        return values
    return np.asarray(
        values.to_numpy(zero_copy_only=False) if isinstance(values, pa.Array) else values
    )


def _validation_rows(rows: _Rows, options: TrainingOptions, seed: int) -> np.ndarray:
    """Which rows are held out, bool [n]: the last days, else (too few days) rows at random."""
    least = options.minimum_frauds
    genuine = len(rows) - rows.frauds
    if rows.frauds < 2 * least or genuine < 2 * least:
        raise NotEnoughFraudsError(
            f"The {len(rows)} rows from {rows.days.min()} to {rows.days.max()} hold {rows.frauds} "
            f"frauds and {genuine} genuine transactions; training needs at least {2 * least} of "
            "each. Choose more days, or days whose labels are known."
        )
    all_days = np.unique(rows.days)
    fewest = max(1, round(len(all_days) * options.validation_share))
    for count in range(fewest, len(all_days) // 2 + 1):
        held_out = rows.days >= all_days[-count]
        frauds = int(rows.labels[held_out].sum())
        if least <= frauds <= rows.frauds - least and frauds < held_out.sum():
            return held_out
    # Sorted by day, then label, then content: shuffled within each label, both keep their share.
    held_out = np.zeros(len(rows), dtype=bool)
    random = np.random.default_rng(seed)
    for label in (0.0, 1.0):
        places = random.permutation(np.flatnonzero(rows.labels == label))
        held_out[places[: max(least, round(len(places) * options.validation_share))]] = True
    return held_out


@contextmanager
def _repeatable(seed: int, threads: int) -> Iterator[None]:
    """Random numbers from the seed and sums cut for so many threads; both put back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(before)


def _fit(
    training: _Rows,
    validation: _Rows,
    options: TrainingOptions,
    seed: int,
    progress: Callable[[Progress], None] | None,
) -> tuple[TabularNetwork, list[dict[str, float]]]:
    """The network at its best epoch on the validation rows, and a curve of all epochs."""
    network = _untrained(training, options)
    steps = min(options.epoch_steps, max(1, len(training) // options.batch_rows))
    optimizer, schedule = _optimizer(network, options, steps)
    random = torch.Generator().manual_seed(seed)
    inputs, labels = torch.from_numpy(training.inputs), torch.from_numpy(training.labels)
    curve: list[dict[str, float]] = []
    best, best_state = -1.0, network.state_dict()
    waited = 0
    for epoch in range(1, options.epochs + 1):
        network.train()
        order = torch.randperm(len(training), generator=random)
        losses = 0.0
        for chosen in order[: steps * options.batch_rows].split(options.batch_rows):
            logits, _ = network.logits(inputs[chosen])
            loss = functional.binary_cross_entropy_with_logits(logits, labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses += loss.item()
        score = average_precision_score(validation.labels, _scores(network, validation.inputs))
        point = Progress(epoch, options.epochs, losses / steps, float(score))
        curve.append(asdict(point))
        if progress:
            progress(point)
        waited += 1
        if point.average_precision > best:
            best, waited = point.average_precision, 0
            best_state = {key: value.clone() for key, value in network.state_dict().items()}
        if waited >= options.patience:
            break
    network.load_state_dict(best_state)
    return network.eval(), curve


def _untrained(training: _Rows, options: TrainingOptions) -> TabularNetwork:
    network = TabularNetwork(
        training.inputs.shape[1],
        bins=options.bins,
        encoded=options.encoded,
        hidden=options.hidden,
        embedding=options.embedding,
    )
    network.fit_encoding(training.inputs)
    share = float(training.labels.mean())
    torch.nn.init.constant_(network.output.bias, float(np.log(share / (1.0 - share))))
    return network


def _optimizer(
    network: TabularNetwork, options: TrainingOptions, epoch_steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW with one rise and fall of the rate; the encoding learns faster and does not decay."""
    groups: dict[bool, list[torch.nn.Parameter]] = {True: [], False: []}
    for name, parameter in network.named_parameters():
        groups[name.startswith("encoding_")].append(parameter)
    rates = [options.encoding_learning_rate, options.learning_rate]
    optimizer = torch.optim.AdamW(
        [
            {"params": groups[True], "weight_decay": 0.0},
            {"params": groups[False], "weight_decay": options.weight_decay},
        ],
        lr=options.learning_rate,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rates, total_steps=options.epochs * epoch_steps, pct_start=0.1
    )
    return optimizer, schedule


def _scores(network: TabularNetwork, inputs: np.ndarray) -> np.ndarray:
    """Probabilities float32 [n] of rows, float32 [n, features]."""
    network.eval()
    with torch.inference_mode():
        parts = torch.from_numpy(inputs).split(4096)
        return torch.cat([network(part)[0] for part in parts]).numpy()


def _scaling(network: TabularNetwork, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """For each feature the edges of its bins and what stands for a missing value, to be read."""
    scaling = {}
    for index, name in enumerate(names):
        used = network.inverse_width[index] > 0
        edges = [*network.left[index][used].tolist(), float(network.highest[index])]
        scaling[name] = {"edges": edges, "missing": float(network.fill[index])}
    return scaling


def _day_texts(days: np.ndarray) -> dict[str, Any]:
    distinct = np.unique(days)
    return {"first": str(distinct[0]), "last": str(distinct[-1]), "count": len(distinct)}
