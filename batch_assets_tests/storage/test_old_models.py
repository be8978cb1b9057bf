"""Old versions go; what is live, was live before, or is needed, stays."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_assets.storage.models import ModelStore
from batch_assets.storage.old_models import remove_old
from batch_assets.storage.promotions import PromotionLog

NAME = "fraud_model"


def filled(root: Path, count: int) -> tuple[ModelStore, list[str]]:
    """A store of some versions, in the order in which the store names them."""
    store = ModelStore(root)
    for number in range(count):
        card = {"name": NAME, "kind": "k", "features": ["a"], "number": number}
        store.save({"w": np.full(2, number, np.float32)}, card)
    return store, store.versions(NAME)


@settings(deadline=None, max_examples=20)
@given(
    promoted=st.lists(st.integers(0, 5), max_size=4),
    rolled_back=st.booleans(),
    needed=st.sets(st.integers(0, 5), max_size=2),
    keep=st.integers(1, 7),
)
def test_the_newest_stay_and_whatever_is_live_comes_back_or_is_needed(
    tmp_path_factory: pytest.TempPathFactory,
    promoted: list[int],
    rolled_back: bool,
    needed: set[int],
    keep: int,
) -> None:
    store, versions = filled(tmp_path_factory.mktemp("models"), 6)
    for number in promoted:
        store.promote(versions[number], NAME)
    distinct = [p.version for p in store.promotions(NAME)]
    if rolled_back and len(distinct) > 1:
        store.roll_back(NAME)
        distinct.pop()
    staying = {*distinct[-2:], *(versions[number] for number in needed)}
    others = [version for version in versions if version not in staying]

    removed = remove_old(store, NAME, keep, [versions[number] for number in needed])

    assert sorted(removed) == sorted(others[:-keep])
    assert set(store.versions(NAME)) == staying | set(others[-keep:])
    assert store.live(NAME) == (distinct[-1] if distinct else None)
    if len(distinct) > 1:
        assert store.roll_back(NAME) == distinct[-2]
    assert remove_old(store, NAME, keep, staying) == []


def test_one_that_is_promoted_at_this_moment_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, versions = filled(tmp_path, 3)
    rename = Path.rename

    def and_meanwhile(path: Path, target: Path) -> Path:
        if path.name == versions[0]:  # whoever promotes it has read and checked it before
            PromotionLog(tmp_path / NAME / "promotions").promote(versions[0], "a person", None)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", and_meanwhile)
    assert remove_old(store, NAME, 1) == [versions[1]]
    assert store.live(NAME) == versions[0]
    assert store.load(versions[0]).version == versions[0]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    store, versions = filled(tmp_path, 2)
    folder = tmp_path / NAME
    (folder / versions[0]).rename(folder / f".removed-{versions[0]}")
    assert remove_old(store, NAME, 9) == [versions[0]]
    assert sorted(path.name for path in folder.iterdir()) == [versions[1]]
