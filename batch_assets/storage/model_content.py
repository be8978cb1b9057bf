"""What a model is made of, and the hash of it that is its version."""

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from batch_assets.errors import BatchAssetsError

if TYPE_CHECKING:
    import numpy as np
    import torch

# What a card says that decides no score: it leaves the version as it is.
NOT_IDENTITY = frozenset({"version", "created_at", "metrics", "training_seconds"})
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")


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


def checked_name(card: Mapping[str, Any]) -> str:
    """The model's name; raises BatchAssetsError if it or another field is missing or wrong."""
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


def as_tensor(value: "torch.Tensor | np.ndarray") -> "torch.Tensor":
    """A tensor on the CPU that shares no memory."""
    import torch

    # A copy of its own, as safetensors refuses tensors that share memory.
    return torch.as_tensor(value).detach().cpu().clone().contiguous()


def tensors_from(content: bytes) -> "dict[str, torch.Tensor]":
    """Tensors by name from the content of a safetensors file."""
    from safetensors.torch import load

    return dict(load(content))


def content_hash(content: bytes) -> str:
    """SHA-256 in hex."""
    return sha256(content).hexdigest()
