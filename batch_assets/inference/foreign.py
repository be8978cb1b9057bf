"""Models that were made elsewhere, as a network that the scorer runs.

A file (a ``torch.export`` program or an ONNX graph) maps float32 [n, features] to outputs, and a
card says what goes in and what the outputs mean. Here both become one module that maps the
feature table's rows to probabilities and vectors of one size.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from batch_assets.inference.exported import ExportedProgram, is_exported_program
from batch_assets.inference.foreign_card import (
    ForeignCard,
    ForeignModelError,
    Scaling,
    output_position,
)
from batch_assets.inference.onnx_file import OnnxProgram

TORCH_EXPORT = "torch_export"
ONNX = "onnx"
FILES = {TORCH_EXPORT: "model.pt2", ONNX: "model.onnx"}
"""Kind of model -> the file that a version keeps."""
LARGEST_BYTES = 2 * 2**30
PROJECTION = "projection"
"""The tensor beside the file that brings wide embeddings to the size of vectors."""
# How files begin that gzip, bzip2, xz, zlib and lz4 packed.
_PACKED = (
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ",
    b"\x78\x01",
    b"\x78\x5e",
    b"\x78\x9c",
    b"\x78\xda",
    b"\x04\x22\x4d",
)


class ForeignNetwork(nn.Module):
    """Probability [n] and vector [n, size] of rows, float32 [n, features].

    Args:
        program: of ``card.features`` inputs.
        size: of a vector. A shorter embedding is filled up with zeros, which leaves distances as
            they are; a longer one takes a ``projection``.
        projection: float32 [width, size].
    """

    missing: Tensor
    lowest: Tensor
    highest: Tensor
    log: Tensor
    mean: Tensor
    std: Tensor
    projection: Tensor | None

    def __init__(
        self,
        program: ExportedProgram | OnnxProgram,
        card: ForeignCard,
        size: int,
        projection: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.program = program
        self.card = card
        self.size = size
        self.register_buffer("projection", projection)
        scaling = [card.scaling.get(name, Scaling()) for name in card.features]
        for name, values in {
            "missing": [math.nan if s.missing is None else s.missing for s in scaling],
            "lowest": [s.clip[0] if s.clip else -math.inf for s in scaling],
            "highest": [s.clip[1] if s.clip else math.inf for s in scaling],
            "mean": [s.mean for s in scaling],
            "std": [s.std for s in scaling],
        }.items():
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32))
        self.register_buffer("log", torch.tensor([s.log1p for s in scaling]))
        self._wanted = [output_position(card.score, program.outputs, "score")]
        if card.embedding is not None:
            self._wanted.append(output_position(card.embedding, program.outputs, "embedding"))

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Probability [n] and vector [n, size] of rows, float32 [n, features]."""
        scaled = self.scaled(rows)
        outputs = self.outputs(scaled)
        return self._probability(outputs[0]), self._vector(self.embedded(scaled, outputs))

    def project(self, projection: Tensor) -> None:
        """Bring embeddings to vectors by this map, float32 [width, size]."""
        self.projection = projection.to(self.mean.device)

    def scaled(self, rows: Tensor) -> Tensor:
        """What the program gets of rows, float32 [n, features]."""
        rows = torch.where(torch.isnan(rows), self.missing, rows)
        rows = torch.clamp(rows, self.lowest, self.highest)
        rows = torch.where(self.log, torch.log1p(rows), rows)
        return (rows - self.mean) / self.std

    def outputs(self, scaled: Tensor) -> list[Tensor]:
        """The score as the program gives it, and the embedding if there is one."""
        least, most, count = self.program.least, self.program.most, len(scaled)
        if least <= count <= most:
            return list(self.program(scaled, self._wanted))
        parts = [self._padded(part, least) for part in scaled.split(min(most, count))]
        return [torch.cat(values) for values in zip(*parts, strict=True)]

    def embedded(self, scaled: Tensor, outputs: list[Tensor]) -> Tensor:
        """The embedding [n, width], or the inputs, large ones made small, where there is none."""
        if len(outputs) > 1:
            return outputs[1].float()
        return torch.asinh(torch.nan_to_num(scaled, nan=0.0))

    def _padded(self, part: Tensor, least: int) -> list[Tensor]:
        rows = functional.pad(part, (0, 0, 0, max(0, least - len(part))))
        return [values[: len(part)] for values in self.program(rows, self._wanted)]

    def _probability(self, score: Tensor) -> Tensor:
        score = score.float()
        logits = self.card.output == "logit"
        if score.dim() == 2 and score.shape[1] == 2:
            score = score[:, 1] - score[:, 0] if logits else score[:, 1]
        score = score.reshape(-1)
        return torch.sigmoid(score) if logits else score

    def _vector(self, embedded: Tensor) -> Tensor:
        if self.projection is not None:
            return embedded @ self.projection
        return functional.pad(embedded, (0, self.size - embedded.shape[1]))


def kind_of(content: bytes) -> str:
    """``torch_export`` or ``onnx``, by what the file holds and not by its name.

    Raises ForeignModelError for everything else, and says why pickles are refused.
    """
    if is_exported_program(content):
        return TORCH_EXPORT
    pickled: str | bool = False
    if content.startswith(b"PK") and b"serialized_exported_program.json" in content:
        pickled = "a program of a torch before 2.8, whose weights are pickled"
    elif content.startswith(b"PK"):
        pickled = b"data.pkl" in content and "a torch.save or TorchScript file"
    elif content.startswith(b"\x80"):
        pickled = "a pickle"
    elif content.startswith(_PACKED):
        pickled = "packed, as joblib packs pickles"
    elif content.startswith(b"\x08"):
        return ONNX
    if pickled:
        raise ForeignModelError(
            f"it is {pickled}, and a pickle can run any code when it is read, so none is ever "
            "loaded: export the model with torch.export.save, or as ONNX"
        )
    raise ForeignModelError(
        "it is neither a torch.export program nor an ONNX model, or it is damaged: export the "
        "model with torch.export.save, or as ONNX"
    )


def load_network(
    kind: str,
    content: bytes,
    card: ForeignCard,
    size: int,
    device: torch.device,
    projection: Tensor | None = None,
) -> ForeignNetwork:
    """The network of a file and a card, its vectors of so many numbers.

    Raises ForeignModelError when the file is damaged or does not fit the card.
    """
    load = ExportedProgram if kind == TORCH_EXPORT else OnnxProgram
    program = load(content, len(card.features), device)
    return ForeignNetwork(program, card, size, projection).to(device).eval()
