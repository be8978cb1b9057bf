import numpy as np
import pytest
import torch
from torch import Tensor

from batch_assets.errors import BatchAssetsError
from batch_assets.inference.encoder import HistoryEncoder

FEATURES = 5


def encoder() -> HistoryEncoder:
    torch.manual_seed(4)
    return HistoryEncoder(FEATURES, width=32, layers=2, heads=2, embedding=16).eval()


def steps(rows: int, length: int) -> Tensor:
    values = np.random.default_rng(5).normal(size=(rows, length, FEATURES)).astype(np.float32)
    return torch.from_numpy(values)


@torch.inference_mode()
def outcome(values: Tensor, lengths: list[int]) -> tuple[Tensor, Tensor]:
    scores, vectors = encoder()(values, torch.tensor(lengths))
    return scores, vectors


@pytest.mark.parametrize("garbage", [1e30, float("nan"), float("inf")])
def test_what_padding_holds_never_shows(garbage: float) -> None:
    values, lengths = steps(4, 12), [0, 1, 7, 12]
    padded = values.clone()
    for row, length in enumerate(lengths):
        values[row, : 12 - length] = 0.0
        padded[row, : 12 - length] = garbage
    for expected, result in zip(outcome(values, lengths), outcome(padded, lengths), strict=True):
        assert torch.equal(expected, result)
        assert result.isfinite().all()


def test_padding_moves_a_result_by_rounding_only() -> None:
    values = steps(1, 9)
    padded = torch.cat([torch.zeros(1, 55, FEATURES), values], dim=1)
    for alone, longer in zip(outcome(values, [9]), outcome(padded, [9]), strict=True):
        torch.testing.assert_close(alone, longer, atol=1e-5, rtol=0)


def test_every_step_and_its_place_matter() -> None:
    values = steps(1, 6)
    swapped = values[:, [1, 0, 2, 3, 4, 5]]
    changed = values.clone()
    changed[0, 0, 0] += 1.0
    _, vectors = outcome(torch.cat([values, swapped, changed]), [6, 6, 6])
    assert (vectors[0] - vectors[1]).abs().max() > 1e-4
    assert (vectors[0] - vectors[2]).abs().max() > 1e-4


def test_missing_is_the_mean_and_what_is_far_out_stays_finite() -> None:
    network = encoder()
    known = np.random.default_rng(6).normal(3.0, 2.0, size=(500, FEATURES)).astype(np.float32)
    known[:, 1] = 7.0
    known[0, 2], known[1, 2] = np.nan, np.inf
    network.fit_scaling(known)
    values = steps(1, 3)
    values[0, 1, 0] = float("nan")
    filled = values.clone()
    filled[0, 1, 0] = network.mean[0]
    values[0, 2, 1], filled[0, 2, 1] = -1e9, 7.0  # constant in training: has no influence
    values[0, 0, 2], filled[0, 0, 2] = float("inf"), 1e30
    with torch.inference_mode():
        _, one = network(values, torch.tensor([3]))
        _, other = network(filled, torch.tensor([3]))
    assert torch.equal(one, other)
    assert one.isfinite().all()


def test_tensors_are_all_that_it_takes() -> None:
    network = encoder()
    network.fit_scaling(np.random.default_rng(7).normal(2, 3, (50, FEATURES)).astype(np.float32))
    again = HistoryEncoder.from_tensors(network.state_dict())
    values, lengths = steps(3, 8), torch.tensor([8, 2, 5])
    with torch.inference_mode():
        for expected, result in zip(network(values, lengths), again(values, lengths), strict=True):
            assert torch.equal(expected, result)
    lacking = dict(network.state_dict())
    del lacking["layers.0.narrow.bias"]
    with pytest.raises(BatchAssetsError, match=r"layers\.0\.narrow\.bias"):
        HistoryEncoder.from_tensors(lacking)


def test_logits_are_those_of_the_probabilities_and_can_be_learned_from() -> None:
    network, values, lengths = encoder(), steps(3, 8), torch.tensor([8, 0, 5])
    logit, embedding = network.logits(values, lengths)
    scores, vectors = network(values, lengths)
    assert torch.equal(torch.sigmoid(logit), scores)
    assert torch.equal(embedding, vectors)
    logit.sum().backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    assert all(each is not None and each.isfinite().all() for each in gradients)


def test_units_must_be_shared_evenly() -> None:
    with pytest.raises(ValueError, match="32 units cannot be shared by 5 heads"):
        HistoryEncoder(FEATURES, width=32, heads=5)
