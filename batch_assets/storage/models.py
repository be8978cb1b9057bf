"""Versions of models on disk: weights as safetensors, a JSON card beside them, never a pickle.

    <root>/<name>/<version>/model.safetensors
    <root>/<name>/<version>/card.json
    <root>/<name>/live                          the version that scoring uses, as text

A version is the hash of what decides a score, so that training the same thing twice gives the
same version. Whole directories are renamed into place and never written again. Everything is a
path below one root, so that only this module and ``atomic`` know that the root is a local disk.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch_assets.errors import BatchAssetsError
from batch_assets.storage.atomic import create_directory, create_file, replace_file

if TYPE_CHECKING:
    import numpy as np
    import torch

WEIGHTS = "model.safetensors"
CARD = "card.json"
LIVE = "live"
# What a card says that decides no score: it leaves the version as it is.
NOT_IDENTITY = frozenset({"version", "created_at", "metrics", "training_seconds"})

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
_VERSION = re.compile(r"[0-9a-f]{16}")


class UnknownModelError(BatchAssetsError):
    """No such model or version in this store."""


class DamagedModelError(BatchAssetsError):
    """The files of a version are not what was saved."""


@dataclass(frozen=True)
class StoredModel:
    """One version: its name, its card, and its tensors by name, on the CPU."""

    name: str
    version: str
    card: dict[str, Any]
    tensors: "dict[str, torch.Tensor]"

    @property
    def features(self) -> list[str]:
        """The input columns in the order in which the model reads them."""
        return list(self.card["features"])


class ModelStore:
    """All versions of all models below one folder, safe for several processes at once.

    Example:
        >>> store = ModelStore(home / "models")
        >>> version = store.save(network.state_dict(), {"name": "fraud_model", ...})
        >>> store.promote_if_none(version)
        >>> model = store.load(store.live("fraud_model"))
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def save(
        self, tensors: "Mapping[str, torch.Tensor | np.ndarray]", card: Mapping[str, Any]
    ) -> str:
        """Keep a model and return its version; a version that is already there stays as it is.

        The card is JSON content and names at least ``name``, ``kind`` and ``features``; version
        and time of creation are added to it. Raises BatchAssetsError when the card lacks a field
        or is no JSON, DamagedModelError when the same version is there but damaged.
        """
        name = _checked_name(card)
        torch_tensors = {key: _as_tensor(value) for key, value in tensors.items()}
        version = content_version(torch_tensors, card)
        if not self._directory(name, version).exists():
            whole_card = {
                **card,
                "version": version,
                "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            self._write(name, version, torch_tensors, whole_card)
        self.load(version, name)
        return version

    def load(self, version: str, name: str | None = None) -> StoredModel:
        """Read one version and check that it is what was saved.

        Raises UnknownModelError when it is not there, DamagedModelError when a file is missing,
        unreadable, or has other content than the version's hash says.
        """
        directory = self._find(version, name)
        try:
            card = json.loads((directory / CARD).read_bytes())
            tensors = _tensors_from((directory / WEIGHTS).read_bytes())
            found = content_version(tensors, card)
        except Exception as error:
            raise _damaged(directory, f"it cannot be read: {error}") from error
        if found != version:
            raise _damaged(directory, f"its content has the hash {found}")
        return StoredModel(directory.parent.name, version, card, tensors)

    def card(self, version: str, name: str | None = None) -> dict[str, Any]:
        """The card of one version alone, without reading (or checking) its weights."""
        directory = self._find(version, name)
        try:
            return dict(json.loads((directory / CARD).read_bytes()))
        except (OSError, ValueError) as error:
            raise _damaged(directory, f"its card cannot be read: {error}") from error

    def names(self) -> list[str]:
        """Names of all models that have a version, sorted."""
        return sorted({path.parent.name for path in self._versions("*")})

    def versions(self, name: str | None = None) -> list[str]:
        """Versions of one model or of all, the oldest first."""
        found = [path.name for path in self._versions(name or "*")]
        return sorted(found, key=lambda version: (self.card(version)["created_at"], version))

    def live(self, name: str) -> str | None:
        """The version that scoring uses, or None before the first was promoted."""
        try:
            version = (self.root / name / LIVE).read_bytes().decode().strip()
        except FileNotFoundError:
            return None
        if not _VERSION.fullmatch(version):
            raise DamagedModelError(
                f"{self.root / name / LIVE} does not hold a version but {version[:40]!r}. "
                "Promote a version to write it again."
            )
        return version

    def promote(self, version: str, name: str | None = None) -> None:
        """Make a version the live one of its model, in one step for all readers.

        The version is read and checked first; raises what ``load`` raises.
        """
        model = self.load(version, name)
        replace_file(self.root / model.name / LIVE, version.encode())

    def promote_if_none(self, version: str, name: str | None = None) -> bool:
        """Make a version live unless its model has a live one; of racing callers one wins.

        Returns whether this call did it.
        """
        model = self.load(version, name)
        return create_file(self.root / model.name / LIVE, version.encode())

    def _directory(self, name: str, version: str) -> Path:
        return self.root / name / version

    def _versions(self, name: str) -> list[Path]:
        return [path for path in self.root.glob(f"{name}/*") if _VERSION.fullmatch(path.name)]

    def _find(self, version: str, name: str | None) -> Path:
        if _VERSION.fullmatch(version):
            for path in self._versions(name or "*"):
                if path.name == version:
                    return path
        known = ", ".join(path.name for path in self._versions(name or "*")) or "none"
        raise UnknownModelError(
            f"There is no model version {version!r} in {self.root} (there: {known}). "
            "Name one of these, or train a model first."
        )

    def _write(
        self,
        name: str,
        version: str,
        tensors: "dict[str, torch.Tensor]",
        card: dict[str, Any],
    ) -> None:
        from safetensors.torch import save

        parent = self.root / name
        parent.mkdir(parents=True, exist_ok=True)
        content = json.dumps(card, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
        create_directory(parent / version, {WEIGHTS: save(tensors), CARD: content.encode("utf-8")})


def content_version(tensors: "Mapping[str, torch.Tensor]", card: Mapping[str, Any]) -> str:
    """The first 16 hex digits of a SHA-256 over the tensors and what in the card decides a score.

    Tensors count by name, dtype, shape and bytes in the order of their names; of the card all
    fields but NOT_IDENTITY. Raises BatchAssetsError when the card is no JSON.
    """
    import torch

    digest = sha256()
    for key in sorted(tensors):
        tensor = tensors[key].detach().cpu().contiguous()
        head = json.dumps([key, str(tensor.dtype), list(tensor.shape)])
        digest.update(head.encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    identity = {key: value for key, value in card.items() if key not in NOT_IDENTITY}
    try:
        # Once there and back, so that it hashes the same as a card read from disk.
        identity = json.loads(json.dumps(identity, allow_nan=False))
        digest.update(json.dumps(identity, sort_keys=True).encode())
    except (TypeError, ValueError) as error:
        raise BatchAssetsError(
            f"The card of model {card.get('name')!r} cannot be written as JSON: {error}. "
            "Use numbers, text, lists and dictionaries only."
        ) from error
    return digest.hexdigest()[:16]


def _checked_name(card: Mapping[str, Any]) -> str:
    missing = [field for field in ("name", "kind", "features") if not card.get(field)]
    if missing:
        raise BatchAssetsError(
            f"The model's card lacks {', '.join(missing)}. Add what is missing and save again."
        )
    name = str(card["name"])
    if not _NAME.fullmatch(name):
        raise BatchAssetsError(
            f"A model cannot be called {name!r}: use lower-case letters, digits, '_', '-', '.'."
        )
    return name


def _as_tensor(value: "torch.Tensor | np.ndarray") -> "torch.Tensor":
    import torch

    # A copy of its own: safetensors refuses tensors that share memory.
    return torch.as_tensor(value).detach().cpu().clone().contiguous()


def _tensors_from(content: bytes) -> "dict[str, torch.Tensor]":
    from safetensors.torch import load

    return dict(load(content))


def _damaged(directory: Path, what: str) -> DamagedModelError:
    return DamagedModelError(
        f"The model version in {directory} is damaged: {what}. "
        "Restore the folder from a copy, or delete it and train again."
    )
