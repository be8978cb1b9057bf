"""What moved a score is told whole, the same each time, and right where the truth is known."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from batch_assets.inference.attribution import attributions, baseline_row
from batch_assets.inference.network import TabularNetwork

FEATURES = 5


class Linear(nn.Module):
    """A logit that is a weighted sum; no gradients are to be had, only probabilities."""

    def __init__(self, weights: list[float]) -> None:
        super().__init__()
        self.weights = torch.tensor(weights)

    @torch.no_grad()
    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return torch.sigmoid(rows @ self.weights), rows


class Both(nn.Module):
    """High only where the first two features are; the others are of no use."""

    def logits(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return torch.minimum(rows[:, 0], rows[:, 1]), rows


def trained_like(seed: int) -> TabularNetwork:
    torch.manual_seed(seed)
    network = TabularNetwork(FEATURES)
    network.fit_encoding(np.random.default_rng(seed).lognormal(size=(400, FEATURES)))
    return network.eval()


@given(
    seed=st.integers(0, 50),
    row=st.lists(
        st.one_of(st.floats(-50, 50, width=32), st.just(float("nan")), st.just(float("inf"))),
        min_size=FEATURES,
        max_size=FEATURES,
    ),
)
def test_contributions_add_up_to_the_difference_of_the_logits(seed: int, row: list[float]) -> None:
    network = trained_like(seed)
    rows = np.array([row], np.float32)
    baseline = baseline_row(network, lambda: np.zeros(FEATURES))
    (found,) = attributions(network, rows, baseline)
    with torch.inference_mode():
        logit = float(network.logits(torch.from_numpy(rows))[0])
        usual = float(network.logits(torch.from_numpy(baseline[None]))[0])
    assert found.logit == pytest.approx(logit, abs=1e-5)
    assert found.baseline_logit == pytest.approx(usual, abs=1e-5)
    assert found.contributions.sum() == pytest.approx(logit - usual, abs=1e-5)


def test_a_linear_model_gets_weight_times_difference() -> None:
    weights = [0.5, -1.0, 0.0, 2.0]
    rows = np.array([[1, 2, 3, 0.5], [0, 0, 9, 1]], np.float32)
    baseline = np.array([0.5, 1, 1, 0], np.float32)
    found = attributions(Linear(weights), rows, baseline)
    expected = (rows - baseline) * np.array(weights)
    assert np.stack([one.contributions for one in found]) == pytest.approx(expected, abs=1e-5)


def test_features_that_work_only_together_share_what_they_did() -> None:
    (found,) = attributions(Both(), np.ones((1, 4), np.float32), np.zeros(4, np.float32))
    assert found.contributions == pytest.approx([0.5, 0.5, 0, 0])


def test_a_row_is_explained_in_the_same_bits_alone_and_among_others() -> None:
    network = trained_like(1)
    rows = np.random.default_rng(2).lognormal(size=(7, FEATURES)).astype(np.float32)
    baseline = baseline_row(network, lambda: np.zeros(FEATURES))
    threads = torch.get_num_threads()
    together = attributions(network, rows, baseline)
    for row, one in zip(rows, together, strict=True):
        (alone,) = attributions(network, row[None], baseline)
        assert alone.contributions.tobytes() == one.contributions.tobytes()
    assert torch.get_num_threads() == threads


def test_what_equals_the_baseline_contributes_nothing() -> None:
    network = trained_like(3)
    baseline = baseline_row(network, lambda: np.zeros(FEATURES))
    row = baseline.copy()
    row[2] += 3
    (found,) = attributions(network, row[None], baseline)
    assert found.contributions[[0, 1, 3, 4]] == pytest.approx(0, abs=1e-12)
    (same,) = attributions(network, baseline[None], baseline)
    assert not same.contributions.any()


def test_a_probability_of_one_has_a_finite_logit() -> None:
    (found,) = attributions(Linear([1000.0]), np.ones((1, 1), np.float32), np.zeros(1, np.float32))
    assert 10 < found.contributions[0] < 100


def test_what_is_usual_is_what_the_network_was_trained_on_or_else_the_medians() -> None:
    network = trained_like(4)
    assert (baseline_row(network, lambda: np.ones(FEATURES)) == network.fill.numpy()).all()
    medians = np.array([3.0, np.nan])
    assert baseline_row(Both(), lambda: medians).tolist() == [3.0, 0.0]
