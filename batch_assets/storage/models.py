"""Versions of models on disk: weights as safetensors, a JSON card beside them, never a pickle.

    <root>/<name>/<version>/model.safetensors
    <root>/<name>/<version>/card.json
    <root>/<name>/<version>/model.onnx          a file of another kind, whose hash the card holds
    <root>/<name>/<version>/comparison.json     how it did beside the version that was live then
    <root>/<name>/<version>/reference.json      how the values of its training days were spread
    <root>/<name>/promotions/000001.json ...    the last one names the version that scoring uses

A version that was saved is a candidate; a promotion makes it the live one, and the one that was
live before is retired.

A version is the hash of what decides a score, so that training the same thing twice gives the
same version. Whole directories are renamed into place and never written again. Everything is a
path below one root; this module, ``atomic`` and ``old_models`` know that it is a local disk.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from batch_assets.errors import BatchAssetsError
from batch_assets.storage.atomic import create_directory, create_file, replace_file
from batch_assets.storage.model_content import (
    as_tensor,
    checked_name,
    content_hash,
    content_version,
    tensors_from,
)
from batch_assets.storage.promotions import ANY, VERSION, Promotion, PromotionLog

if TYPE_CHECKING:
    import numpy as np
    import torch

WEIGHTS = "model.safetensors"
CARD = "card.json"
COMPARISON = "comparison.json"
REFERENCE = "reference.json"
VersionState = Literal["candidate", "live", "retired"]


class UnknownModelError(BatchAssetsError):
    """No such model or version in this store."""


class DamagedModelError(BatchAssetsError):
    """The files of a version are not what was saved."""


@dataclass(frozen=True)
class StoredModel:
    """One version: its name, its card, its tensors by name, on the CPU, and its other files."""

    name: str
    version: str
    card: dict[str, Any]
    tensors: "dict[str, torch.Tensor]"
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def features(self) -> list[str]:
        """The input columns in the order in which the model reads them."""
        return list(self.card["features"])


class ModelStore:
    """All versions of all models below one folder, safe for several processes at once.

    Example:
        >>> store = ModelStore(home / "models")
        >>> version = store.save(network.state_dict(), {"name": "fraud_model", ...})
        >>> store.promote(version, why="first model", instead_of=None)
        >>> model = store.load(store.live("fraud_model"))
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def save(
        self,
        tensors: "Mapping[str, torch.Tensor | np.ndarray]",
        card: Mapping[str, Any],
        files: Mapping[str, bytes] | None = None,
    ) -> str:
        """Keep a model and return its version; a version that is already there stays as it is.

        The card is JSON content and names at least ``name``, ``kind`` and ``features``; version
        and time of creation are added to it, and the hashes of other ``files``, name -> content,
        that belong to the model. Raises BatchAssetsError when the card lacks a field or is no
        JSON, DamagedModelError when the same version is there but damaged.
        """
        name = checked_name(card)
        files = files or {}
        if files:
            card = {
                **card,
                "files": {file: content_hash(content) for file, content in files.items()},
            }
        torch_tensors = {key: as_tensor(value) for key, value in tensors.items()}
        version = content_version(torch_tensors, card)
        if not self._directory(name, version).exists():
            whole_card = {
                **card,
                "version": version,
                "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            self._write(name, version, torch_tensors, whole_card, files)
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
            tensors = tensors_from((directory / WEIGHTS).read_bytes())
            found = content_version(tensors, card)
            files = {file: (directory / file).read_bytes() for file in card.get("files", {})}
        except Exception as error:
            raise _damaged(directory, f"it cannot be read: {error}") from error
        if found != version:
            raise _damaged(directory, f"its content has the hash {found}")
        for file, content in files.items():
            if content_hash(content) != card["files"][file]:
                raise _damaged(directory, f"{file} has other content")
        return StoredModel(directory.parent.name, version, card, tensors, files)

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

    def find(self, prefix: str, name: str | None = None) -> str:
        """The one version that begins with ``prefix``.

        Raises UnknownModelError when there is none, BatchAssetsError when there are several.
        """
        found = [path.name for path in self._versions(name or "*") if path.name.startswith(prefix)]
        if not prefix or not found:
            raise self._unknown(prefix, name)
        if len(found) > 1:
            raise BatchAssetsError(
                f"Several versions begin with {prefix!r}: {', '.join(sorted(found))}. "
                "Name more digits."
            )
        return found[0]

    def live(self, name: str) -> str | None:
        """The version that scoring uses, or None before the first was promoted."""
        last = self._log(name).last()
        return last.version if last else None

    def promotions(self, name: str) -> list[Promotion]:
        """All that ever became live, the oldest first, rollbacks too."""
        return self._log(name).all()

    def state(self, version: str, name: str) -> VersionState:
        """What becomes of a version."""
        if self.live(name) == version:
            return "live"
        was_live = any(version == promotion.version for promotion in self.promotions(name))
        return "retired" if was_live else "candidate"

    def promote(
        self,
        version: str,
        name: str | None = None,
        *,
        why: str = "a person",
        instead_of: str | None = ANY,
    ) -> bool:
        """Make a version the live one of its model, in one step for all readers.

        The version is read and checked first; raises what ``load`` raises.

        Args:
            why: kept with the promotion.
            instead_of: the version that has to be live now, None for no version; ANY for all.

        Returns:
            Whether the version is live; False if another one than ``instead_of`` was.
        """
        model = self.load(version, name)
        return self._log(model.name).promote(version, why, instead_of)

    def roll_back(self, name: str, why: str = "a person") -> str:
        """Make live again what was live before the last promotion that still stands.

        A second rollback goes back one further. The version is read and checked first; raises
        what ``load`` raises, and BatchAssetsError when nothing was live before.

        Returns:
            The version that is live now.
        """
        return self._log(name).roll_back(why, lambda version: self.load(version, name))

    def keep_comparison(self, version: str, name: str, comparison: Mapping[str, Any]) -> None:
        """Keep how a version did beside another one; replaces what was kept of it before."""
        content = json.dumps(comparison, indent=2, allow_nan=False, ensure_ascii=False)
        replace_file(self._find(version, name) / COMPARISON, f"{content}\n".encode())

    def comparison(self, version: str, name: str) -> dict[str, Any] | None:
        """What was kept by ``keep_comparison``, None if nothing was."""
        return _kept(self._find(version, name) / COMPARISON)

    def keep_reference(self, version: str, name: str, reference: Mapping[str, Any]) -> None:
        """Keep what later days of a version are compared with; what is there already stays."""
        content = json.dumps(reference, allow_nan=False, ensure_ascii=False)
        create_file(self._find(version, name) / REFERENCE, f"{content}\n".encode())

    def reference(self, version: str, name: str) -> dict[str, Any] | None:
        """What was kept by ``keep_reference``, None if nothing was."""
        return _kept(self.root / name / version / REFERENCE)

    def reference_key(self, version: str, name: str) -> str:
        """Changes with what ``keep_reference`` has kept; empty if nothing."""
        try:
            return content_hash((self.root / name / version / REFERENCE).read_bytes())[:16]
        except FileNotFoundError:
            return ""

    def size(self, version: str, name: str) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self._find(version, name).iterdir())

    def _log(self, name: str) -> PromotionLog:
        return PromotionLog(self.root / name / "promotions")

    def _directory(self, name: str, version: str) -> Path:
        return self.root / name / version

    def _versions(self, name: str) -> list[Path]:
        return [path for path in self.root.glob(f"{name}/*") if VERSION.fullmatch(path.name)]

    def _find(self, version: str, name: str | None) -> Path:
        if VERSION.fullmatch(version):
            for path in self._versions(name or "*"):
                if path.name == version:
                    return path
        raise self._unknown(version, name)

    def _unknown(self, version: str, name: str | None) -> UnknownModelError:
        known = ", ".join(path.name for path in self._versions(name or "*")) or "none"
        return UnknownModelError(
            f"There is no model version {version!r} in {self.root} (there: {known}). "
            "Name one of these, or train a model first."
        )

    def _write(
        self,
        name: str,
        version: str,
        tensors: "dict[str, torch.Tensor]",
        card: dict[str, Any],
        files: Mapping[str, bytes],
    ) -> None:
        from safetensors.torch import save

        parent = self.root / name
        parent.mkdir(parents=True, exist_ok=True)
        content = json.dumps(card, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
        own = {WEIGHTS: save(tensors), CARD: content.encode("utf-8")}
        create_directory(parent / version, {**files, **own})


def _kept(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DamagedModelError(f"{path} is damaged: {error}. Delete it.") from error


def _damaged(directory: Path, what: str) -> DamagedModelError:
    return DamagedModelError(
        f"The model version in {directory} is damaged: {what}. "
        "Restore the folder from a copy, or delete it and train again."
    )
