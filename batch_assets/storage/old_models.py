"""Removes versions of a model that nobody needs any more."""

import shutil
from collections.abc import Collection
from pathlib import Path

from batch_assets.storage.models import ModelStore
from batch_assets.storage.promotions import standing

_REMOVED = ".removed-"


def remove_old(store: ModelStore, name: str, keep: int, needed: Collection[str] = ()) -> list[str]:
    """Remove all but the newest ``keep`` candidates and retired versions; returns what is gone.

    The live version, the one that a rollback makes live, and those that are ``needed`` always
    stay, and do not count. A version is renamed first and looked at once more, so that one which
    a person promotes at this moment comes back.
    """
    folder = store.root / name
    staying = _staying(store, name, needed)
    others = [version for version in store.versions(name) if version not in staying]
    for version in others[: max(0, len(others) - keep)]:
        (folder / version).rename(folder / f"{_REMOVED}{version}")
    return [
        path.name.removeprefix(_REMOVED)
        for path in sorted(folder.glob(f"{_REMOVED}*"))
        if not _back(store, name, path, needed)
    ]


def _staying(store: ModelStore, name: str, needed: Collection[str]) -> set[str]:
    last_two = standing(store.promotions(name))[-2:]
    return {store.live(name) or "", *(promotion.version for promotion in last_two), *needed}


def _back(store: ModelStore, name: str, path: Path, needed: Collection[str]) -> bool:
    """Remove what was renamed, by this process or one that was killed, or bring it back."""
    version = path.name.removeprefix(_REMOVED)
    if version in _staying(store, name, needed) and not (path.parent / version).exists():
        path.rename(path.parent / version)
        return True
    shutil.rmtree(path)
    return False
