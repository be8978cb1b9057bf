"""How a TabularNetwork learns from arrays; knows nothing of what they mean.

On the CPU the same arrays, options and seed give the same tensors bit for bit: every random
choice comes from the seed, and one thread computes, so that no sum depends on how many cores
there are. (Two threads gain little at this size, and lose much on a machine that is busy.)
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from torch.nn import functional

from batch_assets.inference.network import BINS, EMBEDDING, ENCODED, HIDDEN, TabularNetwork

SCORING_ROWS = 4096


@dataclass(frozen=True)
class FitOptions:
    """How to fit; the defaults were chosen on 70,000 to 600,000 rows with 0.8 % of positives.

    ``epochs`` is the most that are run, ``patience`` the epochs without a better average
    precision on the validation rows after which fitting ends. An epoch has ``epoch_steps``
    batches of ``batch_rows`` rows at most: with more rows than that, it is another sample of
    them each time. The encoding learns at a rate of its own and its weights do not decay.
    """

    epochs: int = 8
    epoch_steps: int = 400
    batch_rows: int = 512
    learning_rate: float = 0.003
    encoding_learning_rate: float = 0.009
    weight_decay: float = 0.1
    patience: int = 4
    bins: int = BINS
    encoded: int = ENCODED
    hidden: int = HIDDEN
    embedding: int = EMBEDDING


@dataclass(frozen=True)
class Examples:
    """Inputs float32 [n, features] and labels float32 [n], 1 for a positive."""

    inputs: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave; ``average_precision`` on the validation rows, None without any."""

    epoch: int
    epochs: int
    loss: float
    average_precision: float | None


def fit(
    training: Examples,
    validation: Examples | None,
    *,
    seed: int,
    options: FitOptions,
    progress: Callable[[Epoch], None] | None = None,
) -> tuple[TabularNetwork, list[Epoch]]:
    """The network at its best epoch on the validation rows, and what each epoch gave.

    Without validation rows it is the network after all epochs. Both classes must be in both sets.
    The loss is the log loss without class weights, the last layer starts at the positives' share:
    scores are probabilities, and a weight of 10 made the order worse (average precision -.01 to
    -.02).
    """
    with _one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _untrained(training, options)
        curve: list[Epoch] = []
        best, best_state, waited = -1.0, network.state_dict(), 0
        for number, loss in enumerate(_epochs(network, training, seed, options), start=1):
            quality = None if validation is None else _average_precision(network, validation)
            curve.append(Epoch(number, options.epochs, loss, quality))
            if progress:
                progress(curve[-1])
            waited += 1
            if quality is None or quality > best:
                best, waited = quality or 0.0, 0
                best_state = {key: value.clone() for key, value in network.state_dict().items()}
            if waited >= options.patience:
                break
        network.load_state_dict(best_state)
        return network.eval(), curve


def predict(network: TabularNetwork, inputs: np.ndarray) -> np.ndarray:
    """Probabilities float32 [n] of rows, float32 [n, features], on the CPU."""
    network.eval()
    with torch.inference_mode():
        parts = torch.from_numpy(inputs).split(SCORING_ROWS)
        return torch.cat([network(part)[0] for part in parts]).numpy()


def _average_precision(network: TabularNetwork, rows: Examples) -> float:
    return float(average_precision_score(rows.labels, predict(network, rows.inputs)))


def _epochs(
    network: TabularNetwork, rows: Examples, seed: int, options: FitOptions
) -> Iterator[float]:
    """Learn for one epoch after the other and yield the mean loss of each."""
    steps = min(options.epoch_steps, max(1, len(rows) // options.batch_rows))
    optimizer, schedule = _optimizer(network, options, steps)
    random = torch.Generator().manual_seed(seed)
    inputs, labels = torch.from_numpy(rows.inputs), torch.from_numpy(rows.labels)
    for _ in range(options.epochs):
        network.train()
        order = torch.randperm(len(rows), generator=random)[: steps * options.batch_rows]
        total = 0.0
        for chosen in order.split(options.batch_rows):
            logits, _ = network.logits(inputs[chosen])
            loss = functional.binary_cross_entropy_with_logits(logits, labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        yield total / steps


def _untrained(rows: Examples, options: FitOptions) -> TabularNetwork:
    network = TabularNetwork(
        rows.inputs.shape[1],
        bins=options.bins,
        encoded=options.encoded,
        hidden=options.hidden,
        embedding=options.embedding,
    )
    network.fit_encoding(rows.inputs, rows.labels)
    share = float(rows.labels.mean())
    torch.nn.init.constant_(network.output.bias, float(np.log(share / (1.0 - share))))
    return network


def _optimizer(
    network: TabularNetwork, options: FitOptions, epoch_steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW, and one rise and fall of the learning rates over all epochs."""
    encoding: list[torch.nn.Parameter] = []
    other: list[torch.nn.Parameter] = []
    for name, parameter in network.named_parameters():
        (encoding if name.startswith("encoding_") else other).append(parameter)
    optimizer = torch.optim.AdamW(
        [
            {"params": encoding, "weight_decay": 0.0},
            {"params": other, "weight_decay": options.weight_decay},
        ],
        lr=options.learning_rate,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=[options.encoding_learning_rate, options.learning_rate],
        total_steps=options.epochs * epoch_steps,
        pct_start=0.1,
    )
    return optimizer, schedule


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
