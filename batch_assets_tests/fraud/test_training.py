from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.metrics import average_precision_score

from batch_assets.errors import BatchAssetsError
from batch_assets.fraud.training import (
    NotEnoughFraudsError,
    Progress,
    TrainingOptions,
    train,
)
from batch_assets.inference.fitting import FitOptions, predict
from batch_assets.inference.network import TabularNetwork
from batch_assets.storage.models import ModelStore

FEATURES = ["amount", "count", "flag"]
QUICK = TrainingOptions(fit=FitOptions(epochs=8, batch_rows=64, learning_rate=0.01))


def separable(rows: int = 4000, days: int = 8, seed: int = 0) -> pa.Table:
    """Frauds, 4 % of the rows, have an amount above 220 or a flag with a high count."""
    random = np.random.default_rng(seed)
    amount = random.uniform(1, 230, rows)
    count = random.poisson(3, rows)
    flag = random.random(rows) < 0.2
    fraud = (amount > 225) | (flag & (count > 6))
    first = np.datetime64("2024-01-01")
    day = first + np.arange(rows) * days // rows
    return pa.table({"amount": amount, "count": count, "flag": flag, "day": day, "is_fraud": fraud})


def trained(table: pa.Table, **more: Any) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    more.setdefault("options", QUICK)
    return train(table, table["is_fraud"], table["day"], feature_names=FEATURES, **more)


def inputs_of(table: pa.Table) -> np.ndarray:
    return np.stack([table[name].to_numpy().astype(np.float32) for name in FEATURES], axis=1)


TABLE = separable()
TENSORS, MODEL_CARD = trained(TABLE)


def test_it_learns_what_separates_frauds_and_keeps_scores_probabilities() -> None:
    new = separable(seed=1)
    scores = predict(TabularNetwork.from_tensors(TENSORS), inputs_of(new))
    labels = new["is_fraud"].to_numpy()
    assert average_precision_score(labels, scores) > 0.95
    assert scores.mean() == pytest.approx(labels.mean(), rel=0.3)


def test_the_card_says_what_the_model_is_and_what_it_was_trained_on() -> None:
    assert MODEL_CARD["name"] == "fraud_model"
    assert MODEL_CARD["kind"] == "tabular_network"
    assert MODEL_CARD["features"] == FEATURES
    assert MODEL_CARD["embedding_size"] == 64
    assert MODEL_CARD["training_days"] == {"first": "2024-01-01", "last": "2024-01-08", "count": 8}
    assert MODEL_CARD["training_rows"] == 4000
    assert MODEL_CARD["metrics"]["validation_days"]["first"] == "2024-01-08"
    assert MODEL_CARD["metrics"]["validation_average_precision"] > 0.9
    assert MODEL_CARD["scaling"]["flag"] == {"edges": [0.0, 1.0], "missing": 0.0}


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_rows_in_any_order_give_the_same_version(
    tmp_path_factory: pytest.TempPathFactory, threads: int
) -> None:
    store = ModelStore(tmp_path_factory.mktemp("models"))
    shuffled = TABLE.take(np.random.default_rng(threads).permutation(len(TABLE)))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        torch.manual_seed(threads)
        again, card = trained(shuffled)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert store.save(again, card) == store.save(TENSORS, MODEL_CARD)
    assert all(torch.equal(again[key], TENSORS[key]) for key in TENSORS)


def test_another_seed_gives_another_model() -> None:
    other, _ = trained(TABLE, seed=1)
    assert not torch.equal(other["hidden.weight"], TENSORS["hidden.weight"])


def test_training_leaves_the_callers_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    trained(TABLE.slice(0, 1000))
    assert torch.equal(torch.rand(1), expected)


def test_progress_comes_after_each_epoch_and_ends_at_the_total() -> None:
    seen: list[Progress] = []
    _, card = trained(TABLE, progress=seen.append)
    assert [step.done for step in seen] == list(range(1, len(seen) + 1))
    assert seen[-1].done == seen[-1].total
    assert all(step.done <= step.total for step in seen)
    assert len(seen) == len(card["metrics"]["learning_curve"]) + card["metrics"]["epochs"]


def test_odds_are_corrected_for_genuine_rows_that_were_left_out() -> None:
    tensors, card = trained(TABLE, genuine_kept=0.25)
    change = tensors["output.bias"] - TENSORS["output.bias"]
    assert change.item() == pytest.approx(np.log(0.25), abs=1e-5)
    assert card["genuine_kept"] == 0.25
    others = tensors.keys() - {"output.bias"}
    assert all(torch.equal(tensors[key], TENSORS[key]) for key in others)


def test_one_day_alone_is_validated_on_rows_of_it() -> None:
    _, card = trained(separable(rows=1500, days=1))
    assert card["metrics"]["validation_days"] == card["training_days"]
    assert 0 < card["metrics"]["validation_rows"] < 1500


def test_missing_values_are_allowed() -> None:
    amount = TABLE["amount"].to_pylist()
    amount[::7] = [None] * len(amount[::7])
    tensors, _ = trained(TABLE.set_column(0, "amount", pa.array(amount)))
    scores = predict(TabularNetwork.from_tensors(tensors), inputs_of(TABLE))
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("frauds", [0, 1, 5])
def test_too_few_frauds_are_an_error_that_says_how_many(frauds: int) -> None:
    labels = np.arange(len(TABLE)) < frauds
    with pytest.raises(NotEnoughFraudsError, match=f"hold {frauds} frauds.*Choose more days"):
        train(TABLE, labels, TABLE["day"], feature_names=FEATURES)


def test_all_frauds_is_an_error_too() -> None:
    with pytest.raises(NotEnoughFraudsError, match="0 genuine"):
        train(TABLE, np.ones(len(TABLE)), TABLE["day"], feature_names=FEATURES)


def test_wrong_input_is_named() -> None:
    with pytest.raises(NotEnoughFraudsError, match="no rows"):
        trained(TABLE.slice(0, 0))
    with pytest.raises(BatchAssetsError, match="lack the model's inputs count"):
        trained(TABLE.drop_columns("count"))
    with pytest.raises(BatchAssetsError, match="4000 rows, 10 labels"):
        train(TABLE, np.ones(10), TABLE["day"], feature_names=FEATURES)
    with pytest.raises(BatchAssetsError, match="neither 0 nor 1"):
        train(TABLE, np.full(len(TABLE), 2), TABLE["day"], feature_names=FEATURES)
    unknown = pa.array([None, *([True, False] * 2000)][: len(TABLE)])
    with pytest.raises(BatchAssetsError, match="neither 0 nor 1"):
        train(TABLE, unknown, TABLE["day"], feature_names=FEATURES)
