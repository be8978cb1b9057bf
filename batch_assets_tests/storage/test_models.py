import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from batch_assets.errors import BatchAssetsError
from batch_assets.storage.models import (
    CARD,
    WEIGHTS,
    DamagedModelError,
    ModelStore,
    UnknownModelError,
)

CARD_OF_ALL: dict[str, Any] = {
    "name": "fraud_model",
    "kind": "tabular_network",
    "features": ["amount", "count"],
    "seed": 1,
    "metrics": {"auc": 0.9},
}


def tensors(value: float = 1.0) -> dict[str, torch.Tensor]:
    return {
        "weight": torch.arange(6, dtype=torch.float32).reshape(2, 3) * value,
        "bias": torch.tensor(value),
        "half": torch.ones(3, dtype=torch.bfloat16),
        "empty": torch.zeros(0, 4),
    }


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def test_what_is_saved_is_loaded_bit_for_bit(store: ModelStore) -> None:
    model = store.load(store.save(tensors(), CARD_OF_ALL))
    assert model.name == "fraud_model"
    assert model.features == ["amount", "count"]
    assert model.card == {**CARD_OF_ALL, "version": model.version} | {
        "created_at": model.card["created_at"]
    }
    assert model.tensors.keys() == tensors().keys()
    for key, tensor in tensors().items():
        assert model.tensors[key].dtype == tensor.dtype
        assert torch.equal(model.tensors[key], tensor)


def test_numpy_arrays_and_tensors_that_share_memory_are_saved_too(store: ModelStore) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    shared = torch.from_numpy(array)
    version = store.save({"a": array, "b": shared, "c": shared.T}, CARD_OF_ALL)
    assert torch.equal(store.load(version).tensors["c"], shared.T)


def test_equal_content_has_one_version_whatever_the_time_and_order(store: ModelStore) -> None:
    version = store.save(tensors(), CARD_OF_ALL)
    backwards = dict(reversed(tensors().items()))
    card = {**CARD_OF_ALL, "created_at": "later", "training_seconds": 9.0, "metrics": {}}
    before = store.card(version)
    assert store.save(backwards, dict(reversed(card.items()))) == version
    assert store.versions() == [version]
    assert store.card(version) == before


def test_other_weights_features_or_shapes_have_another_version(store: ModelStore) -> None:
    other_shape = {**tensors(), "weight": tensors()["weight"].reshape(3, 2)}
    versions = {
        store.save(tensors(), CARD_OF_ALL),
        store.save(tensors(2.0), CARD_OF_ALL),
        store.save(other_shape, CARD_OF_ALL),
        store.save(tensors(), {**CARD_OF_ALL, "features": ["count", "amount"]}),
    }
    assert len(versions) == 4
    assert set(store.versions("fraud_model")) == versions
    assert store.versions("another") == []
    assert store.names() == ["fraud_model"]


def test_a_card_hashes_the_same_before_and_after_json(store: ModelStore) -> None:
    card = {**CARD_OF_ALL, "by_number": {10: "ten", 9: ("a", "b")}, "third": 1 / 3}
    assert store.load(store.save(tensors(), card)).card["by_number"] == {
        "10": "ten",
        "9": ["a", "b"],
    }


def test_nothing_is_pickled_and_nothing_else_is_left_behind(store: ModelStore) -> None:
    version = store.save(tensors(), CARD_OF_ALL)
    store.promote(version)
    files = sorted(path.relative_to(store.root).as_posix() for path in store.root.rglob("*.*"))
    assert files == [f"fraud_model/{version}/{CARD}", f"fraud_model/{version}/{WEIGHTS}"]
    assert load_file(store.root / files[1]).keys() == tensors().keys()


def _flip_a_byte(directory: Path) -> None:
    content = bytearray((directory / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (directory / WEIGHTS).write_bytes(content)


def _truncate(directory: Path) -> None:
    (directory / WEIGHTS).write_bytes((directory / WEIGHTS).read_bytes()[:-7])


def _other_weights(directory: Path) -> None:
    save_file(tensors(3.0), directory / WEIGHTS)


def _other_card(directory: Path) -> None:
    card = json.loads((directory / CARD).read_text())
    (directory / CARD).write_text(json.dumps({**card, "features": ["count", "amount"]}))


def _no_json(directory: Path) -> None:
    (directory / CARD).write_text("{")


def _no_weights(directory: Path) -> None:
    (directory / WEIGHTS).unlink()


@pytest.mark.parametrize(
    "damage", [_flip_a_byte, _truncate, _other_weights, _other_card, _no_json, _no_weights]
)
def test_a_damaged_version_is_refused_and_not_promoted(store: ModelStore, damage: Any) -> None:
    version = store.save(tensors(), CARD_OF_ALL)
    damage(store.root / "fraud_model" / version)
    with pytest.raises(DamagedModelError, match=version):
        store.load(version)
    with pytest.raises(DamagedModelError):
        store.promote(version)
    with pytest.raises(DamagedModelError):
        store.save(tensors(), CARD_OF_ALL)
    assert store.live("fraud_model") is None


def test_an_unknown_version_is_an_error_that_lists_those_there(store: ModelStore) -> None:
    version = store.save(tensors(), CARD_OF_ALL)
    for wrong in ("0" * 16, "../fraud_model", "*", "live"):
        with pytest.raises(UnknownModelError, match=version):
            store.load(wrong)
    with pytest.raises(UnknownModelError, match="none"):
        store.load(version, "another")


def test_cards_that_cannot_be_kept_are_refused(store: ModelStore) -> None:
    with pytest.raises(BatchAssetsError, match="lacks kind, features"):
        store.save(tensors(), {"name": "a"})
    with pytest.raises(BatchAssetsError, match="cannot be called"):
        store.save(tensors(), {**CARD_OF_ALL, "name": "../a"})
    with pytest.raises(BatchAssetsError, match="cannot be written as JSON"):
        store.save(tensors(), {**CARD_OF_ALL, "best": float("nan")})
    assert store.names() == []


def test_live_is_what_was_promoted_last(store: ModelStore) -> None:
    first, second = store.save(tensors(), CARD_OF_ALL), store.save(tensors(2.0), CARD_OF_ALL)
    assert store.live("fraud_model") is None
    assert store.promote_if_none(first)
    assert not store.promote_if_none(second)
    assert store.live("fraud_model") == first
    store.promote(second)
    assert store.live("fraud_model") == second


def test_a_pointer_that_holds_something_else_is_an_error(store: ModelStore) -> None:
    version = store.save(tensors(), CARD_OF_ALL)
    store.promote(version)
    (store.root / "fraud_model" / "live").write_text("")
    with pytest.raises(DamagedModelError, match="Promote a version"):
        store.live("fraud_model")
    store.promote(version)
    assert store.live("fraud_model") == version


def save_and_promote(root: Path, value: float) -> tuple[str, bool]:
    store = ModelStore(root)
    version = store.save(tensors(value), CARD_OF_ALL)
    won = store.promote_if_none(version)
    for _ in range(20):
        store.promote(version)
        assert store.live("fraud_model") is not None
    return version, won


def test_racing_processes_leave_whole_versions_and_one_winner(tmp_path: Path) -> None:
    values = [1.0, 1.0, 2.0, 2.0]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(values), mp_context=spawn) as pool:
        results = list(pool.map(save_and_promote, [tmp_path] * len(values), values))
    store = ModelStore(tmp_path)
    versions = {version for version, _ in results}
    assert set(store.versions()) == versions
    assert len(versions) == 2
    assert sum(won for _, won in results) == 1
    assert store.live("fraud_model") in versions
    for version in versions:
        assert store.load(version).version == version
    assert not list(tmp_path.rglob(".new-*"))
