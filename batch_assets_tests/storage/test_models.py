import json
import multiprocessing
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from batch_assets.errors import BatchAssetsError
from batch_assets.storage.models import (
    CARD,
    WEIGHTS,
    DamagedModelError,
    ModelStore,
    UnknownModelError,
)
from batch_assets.storage.promotions import DamagedPromotionError

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
    files = {path.relative_to(store.root).as_posix() for path in store.root.rglob("*.*")}
    of_version = {f"fraud_model/{version}/{CARD}", f"fraud_model/{version}/{WEIGHTS}"}
    assert files == {*of_version, "fraud_model/promotions/000001.json"}
    assert load_file(store.root / "fraud_model" / version / WEIGHTS).keys() == tensors().keys()


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
    assert store.promote(first, why="first model", instead_of=None)
    assert not store.promote(second, instead_of=None)
    assert store.live("fraud_model") == first
    assert store.promote(second, why="better", instead_of=first)
    assert store.live("fraud_model") == second
    assert [(p.version, p.why) for p in store.promotions("fraud_model")] == [
        (first, "first model"),
        (second, "better"),
    ]


def test_a_version_is_a_candidate_then_live_then_retired(store: ModelStore) -> None:
    first, second = store.save(tensors(), CARD_OF_ALL), store.save(tensors(2.0), CARD_OF_ALL)

    def states() -> list[str]:
        return [store.state(version, "fraud_model") for version in (first, second)]

    assert states() == ["candidate", "candidate"]
    store.promote(first)
    assert states() == ["live", "candidate"]
    store.promote(second)
    assert states() == ["retired", "live"]
    store.roll_back("fraud_model")
    assert states() == ["live", "retired"]


def test_what_is_live_already_is_promoted_without_a_trace(store: ModelStore) -> None:
    version = store.save(tensors(), CARD_OF_ALL)
    for _ in range(3):
        assert store.promote(version)
    assert len(store.promotions("fraud_model")) == 1


@given(steps=st.lists(st.sampled_from([0, 1, 2, "back"]), max_size=12))
@settings(max_examples=30)
def test_a_rollback_goes_back_as_one_step_of_undo(steps: list[int | str]) -> None:
    with TemporaryDirectory() as folder:
        store = ModelStore(folder)
        versions = [store.save(tensors(value), CARD_OF_ALL) for value in (1.0, 2.0, 3.0)]
        undo: list[str] = []
        for step in steps:
            if isinstance(step, int):
                store.promote(versions[step])
                if undo[-1:] != [versions[step]]:
                    undo.append(versions[step])
            elif len(undo) < 2:
                with pytest.raises(BatchAssetsError, match="to go back to"):
                    store.roll_back("fraud_model")
            else:
                undo.pop()
                assert store.roll_back("fraud_model") == undo[-1]
            assert store.live("fraud_model") == (undo[-1] if undo else None)


def test_nobody_goes_back_to_a_version_that_is_damaged(store: ModelStore) -> None:
    first, second = store.save(tensors(), CARD_OF_ALL), store.save(tensors(2.0), CARD_OF_ALL)
    store.promote(first)
    store.promote(second)
    _flip_a_byte(store.root / "fraud_model" / first)
    with pytest.raises(DamagedModelError):
        store.roll_back("fraud_model")
    assert store.live("fraud_model") == second


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"number": 2, "version": "latest"}'])
def test_a_promotion_that_cannot_be_read_is_an_error_until_a_person_promotes(
    store: ModelStore, content: str
) -> None:
    first, second = store.save(tensors(), CARD_OF_ALL), store.save(tensors(2.0), CARD_OF_ALL)
    store.promote(first)
    store.promote(second)
    (store.root / "fraud_model/promotions/000002.json").write_text(content)
    for ask in (
        lambda: store.live("fraud_model"),
        lambda: store.roll_back("fraud_model"),
        lambda: store.promote(second, instead_of=first),
    ):
        with pytest.raises(DamagedPromotionError, match="models promote"):
            ask()
    assert store.promote(second)
    assert store.live("fraud_model") == second
    assert store.roll_back("fraud_model") == first


def test_a_pointer_of_earlier_times_counts_as_the_first_promotion(store: ModelStore) -> None:
    first, second = store.save(tensors(), CARD_OF_ALL), store.save(tensors(2.0), CARD_OF_ALL)
    (store.root / "fraud_model/live").write_text(first)
    assert store.live("fraud_model") == first
    assert not store.promote(second, instead_of=None)
    store.promote(second)
    assert store.roll_back("fraud_model") == first


def test_the_first_digits_of_a_version_are_enough_if_no_other_has_them(store: ModelStore) -> None:
    versions = {store.save(tensors(float(value)), CARD_OF_ALL) for value in range(1, 18)}
    for version in versions:
        assert store.find(version) == version
        assert store.find(version[:12], "fraud_model") == version
    # 17 versions, 16 digits to begin with
    shared = next(d for d in "0123456789abcdef" if sum(v[0] == d for v in versions) > 1)
    with pytest.raises(BatchAssetsError, match="Several versions begin with"):
        store.find(shared)
    for wrong in ("", "x", "0" * 17):
        with pytest.raises(UnknownModelError):
            store.find(wrong)


def test_a_comparison_is_kept_beside_the_version_and_leaves_it_as_it_is(store: ModelStore) -> None:
    version = store.save(tensors(), CARD_OF_ALL)
    assert store.comparison(version, "fraud_model") is None
    for found in ({"better": False}, {"better": True, "reason": "é"}):
        store.keep_comparison(version, "fraud_model", found)
        assert store.comparison(version, "fraud_model") == found
    assert store.load(version).version == version
    assert store.versions() == [version]


KILLED = """
import os, signal, sys
from batch_assets.storage.models import ModelStore
real = os.link
def link(*arguments):
    if sys.argv[3] == "after":
        real(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
os.link = link
ModelStore(sys.argv[1]).promote(sys.argv[2])
"""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_promotion_that_is_killed_happened_or_did_not(store: ModelStore, moment: str) -> None:
    first, second = store.save(tensors(), CARD_OF_ALL), store.save(tensors(2.0), CARD_OF_ALL)
    store.promote(first)
    arguments = [str(store.root), second, moment]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False)
    assert done.returncode == -signal.SIGKILL
    now = first if moment == "before" else second
    assert store.live("fraud_model") == now
    assert [p.version for p in store.promotions("fraud_model")][-1] == now
    assert store.promote(second)
    assert store.roll_back("fraud_model") == first


def save_and_promote(root: Path, value: float) -> str:
    store = ModelStore(root)
    version = store.save(tensors(value), CARD_OF_ALL)
    for _ in range(20):
        store.promote(version)
        assert store.live("fraud_model") is not None
    return version


def test_racing_processes_leave_whole_versions_and_one_history(tmp_path: Path) -> None:
    values = [1.0, 1.0, 2.0, 2.0]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(values), mp_context=spawn) as pool:
        results = list(pool.map(save_and_promote, [tmp_path] * len(values), values))
    store = ModelStore(tmp_path)
    versions = set(results)
    assert set(store.versions()) == versions
    assert len(versions) == 2
    history = store.promotions("fraud_model")
    assert [p.number for p in history] == list(range(1, len(history) + 1))
    assert all(a.version != b.version for a, b in pairwise(history))
    assert store.live("fraud_model") == history[-1].version
    for version in versions:
        assert store.load(version).version == version
    assert not list(tmp_path.rglob(".new-*"))


def promote_the_first(root: Path, value: float) -> bool:
    store = ModelStore(root)
    return store.promote(store.save(tensors(value), CARD_OF_ALL), instead_of=None)


def test_of_racing_first_versions_one_goes_live(tmp_path: Path) -> None:
    values = [1.0, 2.0, 3.0, 4.0]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(values), mp_context=spawn) as pool:
        won = list(pool.map(promote_the_first, [tmp_path] * len(values), values))
    assert sum(won) == 1
    store = ModelStore(tmp_path)
    (only,) = store.promotions("fraud_model")
    assert only.version == store.save(tensors(values[won.index(True)]), CARD_OF_ALL)


def roll_back(root: Path) -> str:
    return ModelStore(root).roll_back("fraud_model")


def test_racing_rollbacks_each_go_back_one(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    versions = [store.save(tensors(float(value)), CARD_OF_ALL) for value in range(4)]
    for version in versions:
        store.promote(version)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(3, mp_context=spawn) as pool:
        found = list(pool.map(roll_back, [tmp_path] * 3))
    assert sorted(found) == sorted(versions[:3])
    assert store.live("fraud_model") == versions[0]
