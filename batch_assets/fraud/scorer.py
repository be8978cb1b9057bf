"""A version of the model, on a device."""

from pathlib import Path
from typing import TYPE_CHECKING

from batch_assets.fraud.embeddings import EMBEDDING_SIZE
from batch_assets.storage.models import ModelStore, StoredModel

if TYPE_CHECKING:
    from batch_assets.inference.foreign import ForeignNetwork
    from batch_assets.inference.scoring import Scorer

MODEL = "fraud_model"


def load_scorer(
    models: ModelStore, version: str, home: Path, device: str, precision: str
) -> "Scorer":
    """A version of the model on a device, of whatever kind its card says that it is.

    Args:
        home: data home, where it is remembered how the model is computed best.
        precision: fp32, bf16 or auto; onnxruntime computes in that of the file.
    """
    from torch import nn

    from batch_assets.inference.foreign import FILES, ONNX
    from batch_assets.inference.network import TabularNetwork
    from batch_assets.inference.onnx_file import runtime_version
    from batch_assets.inference.scoring import Scorer
    from batch_assets.inference.tuning import Tuning

    model = models.load(version, MODEL)
    kind, computed_by = model.card["kind"], version
    network: nn.Module
    if kind in FILES:
        network = _foreign_network(model, device)
    else:
        network = TabularNetwork.from_tensors(model.tensors)
    if kind == ONNX:
        precision, computed_by = "fp32", f"{version}, {runtime_version()}"
    return Scorer(
        network,
        model.features,
        version=computed_by,
        device=device,
        precision=precision,
        tuning=Tuning(home / ".tuning" / "batch_sizes.json", version),
    )


def _foreign_network(model: StoredModel, device: str) -> "ForeignNetwork":
    from batch_assets.inference.devices import resolve_device
    from batch_assets.inference.foreign import FILES, PROJECTION, load_network
    from batch_assets.inference.foreign_card import stored_card

    kind = model.card["kind"]
    return load_network(
        kind,
        model.files[FILES[kind]],
        stored_card(model.card),
        EMBEDDING_SIZE,
        resolve_device(device)[0],
        model.tensors.get(PROJECTION),
    )
