import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from batch_assets.errors import BatchAssetsError
from batch_assets.inference.network import BINS, LARGEST, TabularNetwork, bin_edges

FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)


def network_of(rows: np.ndarray) -> TabularNetwork:
    torch.manual_seed(0)
    network = TabularNetwork(rows.shape[1]).eval()
    network.fit_encoding(rows)
    return network


def outputs(network: TabularNetwork, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.inference_mode():
        score, embedding = network(torch.from_numpy(rows))
    return score, embedding


@settings(deadline=None)
@given(hnp.arrays(np.float32, st.integers(0, 200), elements=FLOATS))
def test_edges_increase_and_span_the_known_values(values: np.ndarray) -> None:
    edges = bin_edges(values)
    known = values[np.isfinite(values)].clip(-LARGEST, LARGEST)
    assert 1 <= len(edges) <= BINS + 1
    assert (np.diff(edges) > 0).all()
    if known.size:
        assert edges[0] == known.min()
        assert edges[-1] == known.max()


def test_a_share_that_is_mostly_zero_keeps_its_resolution_above_zero() -> None:
    rare = np.linspace(0.01, 1.0, 300, dtype=np.float32)
    values = np.concatenate([np.zeros(20_000, dtype=np.float32), rare])
    edges = bin_edges(values)
    assert edges[:2].tolist() == pytest.approx([0.0, 0.01])
    assert len(edges) > BINS // 2


def test_bins_are_fine_where_the_few_positives_are() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(20_000, 1)).astype(np.float32)
    labels = np.zeros(20_000, dtype=np.float32)
    labels[:100] = 1.0
    values[:100] += 8.0
    by_weight, balanced = TabularNetwork(1), TabularNetwork(1)
    by_weight.fit_encoding(values)
    balanced.fit_encoding(values, labels)
    assert (by_weight.left > 5).sum() <= 1
    assert (balanced.left > 5).sum() >= BINS // 3
    assert (balanced.left < 5).sum() >= BINS // 3
    assert torch.equal(balanced.fill, by_weight.fill)
    assert torch.equal(balanced.highest, by_weight.highest)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_alone_leaves_the_bins_as_they_are(label: float) -> None:
    values = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
    plain, labelled = TabularNetwork(2), TabularNetwork(2)
    plain.fit_encoding(values)
    labelled.fit_encoding(values, np.full(500, label, dtype=np.float32))
    assert torch.equal(plain.left, labelled.left)


def test_few_distinct_values_are_the_edges() -> None:
    assert bin_edges(np.array([1.0, 0.0, 0.0, 3.0, 1.0])).tolist() == [0.0, 1.0, 3.0]


def test_an_encoded_value_says_how_much_of_each_bin_lies_below_it() -> None:
    rows = np.array([[0.0], [1.0], [3.0]], dtype=np.float32)
    network = network_of(rows)
    encoded = network.encode(torch.tensor([[0.5], [2.0], [3.0]]))
    assert encoded[:, 0, :2].tolist() == [[0.5, 0.0], [1.0, 0.5], [1.0, 1.0]]
    assert not encoded[:, 0, 2:].any()


def test_output_shapes_are_a_probability_and_an_embedding_a_row() -> None:
    rows = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
    score, embedding = outputs(network_of(rows), rows)
    assert score.shape == (300,)
    assert embedding.shape == (300, 64)
    assert ((score > 0) & (score < 1)).all()


def test_missing_values_count_as_the_median() -> None:
    rows = np.array([[1.0, 5.0], [2.0, 6.0], [9.0, 7.0]], dtype=np.float32)
    network = network_of(rows)
    missing, median = np.array([[np.nan, 5.0]]), np.array([[2.0, 5.0]])
    for left, right in zip(
        outputs(network, missing.astype(np.float32)),
        outputs(network, median.astype(np.float32)),
        strict=True,
    ):
        assert torch.equal(left, right)


def test_values_outside_the_training_range_count_as_its_ends() -> None:
    rows = np.array([[1.0], [2.0], [9.0]], dtype=np.float32)
    network = network_of(rows)
    outside = np.array([[-np.inf], [-5.0], [99.0], [np.inf]], dtype=np.float32)
    ends = np.array([[1.0], [1.0], [9.0], [9.0]], dtype=np.float32)
    assert torch.equal(outputs(network, outside)[0], outputs(network, ends)[0])


def test_a_constant_feature_has_no_influence() -> None:
    rows = np.array([[4.0, 1.0], [4.0, 2.0]], dtype=np.float32)
    network = network_of(rows)
    others = np.array([[0.0, 1.0], [np.inf, 2.0]], dtype=np.float32)
    assert torch.equal(outputs(network, rows)[0], outputs(network, others)[0])


@settings(deadline=None, max_examples=30)
@example(np.full((20, 3), [-3e38, 1e-45, 0.0], np.float32), np.full((20, 3), 3e38, np.float32))
@example(np.eye(20, 3, dtype=np.float32) * np.float32(1e-45), np.zeros((20, 3), np.float32))
@given(
    hnp.arrays(np.float32, (20, 3), elements=FLOATS),
    hnp.arrays(np.float32, (20, 3), elements=FLOATS),
)
def test_any_input_gives_a_finite_output(training: np.ndarray, rows: np.ndarray) -> None:
    score, embedding = outputs(network_of(training), rows)
    assert torch.isfinite(score).all()
    assert torch.isfinite(embedding).all()


def test_the_tensors_alone_give_the_network_back() -> None:
    rows = np.random.default_rng(1).normal(size=(256, 4)).astype(np.float32)
    network = network_of(rows)
    again = TabularNetwork.from_tensors(network.state_dict())
    assert torch.equal(outputs(network, rows)[1], outputs(again, rows)[1])


def test_tensors_of_something_else_are_refused() -> None:
    tensors = dict(network_of(np.ones((2, 2), dtype=np.float32)).state_dict())
    with pytest.raises(BatchAssetsError, match="not a tabular network"):
        TabularNetwork.from_tensors({key: tensors[key] for key in ("left", "fill")})
    with pytest.raises(BatchAssetsError, match="not a tabular network"):
        TabularNetwork.from_tensors({**tensors, "fill": torch.zeros(3)})
