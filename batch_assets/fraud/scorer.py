"""The live model, on a device."""

from pathlib import Path
from typing import TYPE_CHECKING

from batch_assets.storage.models import ModelStore

if TYPE_CHECKING:
    from batch_assets.inference.scoring import Scorer

MODEL = "fraud_model"


def load_scorer(
    models: ModelStore, version: str, home: Path, device: str, precision: str
) -> "Scorer":
    """A version of the model on a device.

    Args:
        home: data home, where it is remembered how the model is computed best.
        precision: fp32, bf16 or auto.
    """
    from batch_assets.inference.network import TabularNetwork
    from batch_assets.inference.scoring import Scorer
    from batch_assets.inference.tuning import Tuning

    model = models.load(version, MODEL)
    return Scorer(
        TabularNetwork.from_tensors(model.tensors),
        model.features,
        version=version,
        device=device,
        precision=precision,
        tuning=Tuning(home / ".tuning" / "batch_sizes.json", version),
    )
