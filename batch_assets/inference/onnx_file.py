"""ONNX files, run by onnxruntime, which the extra ``onnx`` installs."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from batch_assets.inference.foreign_card import ForeignModelError, first_line

UNBOUNDED = 2**62
_FLOATS = ("tensor(float)", "tensor(double)", "tensor(float16)")


class OnnxProgram(nn.Module):
    """An ONNX graph of one input, float32 [n, features]; see ``ExportedProgram``.

    One session serves all threads, each with one thread of its own in onnxruntime. On a CUDA
    device the graph runs there if onnxruntime was built for it, and on the CPU if not; rows and
    results go through host memory in any case.
    """

    def __init__(self, content: bytes, features: int, device: torch.device) -> None:
        super().__init__()
        _check_file(content)
        self._session = _session(content, device)
        self._input, self.least, self.most = _checked_input(self._session, features)
        self._outputs = self._session.get_outputs()
        self.outputs = tuple(output.name for output in self._outputs)

    def forward(self, rows: Tensor, wanted: Sequence[int]) -> list[Tensor]:
        """The outputs at these positions, for ``least`` to ``most`` rows."""
        for position in wanted:
            if self._outputs[position].type not in _FLOATS:
                raise ForeignModelError(_not_numbers(self._outputs[position]))
        names = [self.outputs[position] for position in wanted]
        found = self._session.run(names, {self._input: rows.cpu().numpy()})
        return [torch.from_numpy(values).to(rows.device) for values in found]


def runtime_version() -> str:
    """Of onnxruntime, on which the bits of a result depend."""
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__}"


def _check_file(content: bytes) -> None:
    """Raises ForeignModelError when this is no model, or its weights lie in other files."""
    try:
        import onnx
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ForeignModelError(
            f"ONNX files need {error.name}: pip install 'batch_assets[onnx]'"
        ) from error
    try:
        model = onnx.ModelProto.FromString(content)
    except Exception as error:
        raise ForeignModelError(
            f"the ONNX file is truncated or damaged ({first_line(error)}); copy or export it again"
        ) from error
    if not model.graph.node:
        raise ForeignModelError("the file is no ONNX model: its graph has no operators")
    for tensor in _tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise ForeignModelError(
                f"the ONNX file keeps tensor {tensor.name!r} in a file beside it: save it whole, "
                "with onnx.save(model, path, save_as_external_data=False), or external_data=False "
                "in torch.onnx.export"
            )


def _tensors(graph: Any) -> Iterator[Any]:
    """All constants of a graph and of the graphs in it."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    yield from _tensors(inner)


def _session(content: bytes, device: torch.device) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 4  # what goes wrong is raised, too
    providers = ["CPUExecutionProvider"]
    if device.type == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, "CUDAExecutionProvider")
    try:
        return onnxruntime.InferenceSession(content, options, providers=providers)
    except Exception as error:
        raise ForeignModelError(
            f"{runtime_version()} cannot run this file ({first_line(error)}): export it with an "
            "operator set that it knows, and with no operators of your own"
        ) from error


def _checked_input(session: Any, features: int) -> tuple[str, int, int]:
    """Name of the one input, and the fewest and the most rows that it takes."""
    inputs = session.get_inputs()
    described = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
    if len(inputs) == 1 and inputs[0].type == "tensor(float)" and len(inputs[0].shape) == 2:
        rows, columns = inputs[0].shape
        if columns == features or not isinstance(columns, int):
            least, most = (rows, rows) if isinstance(rows, int) else (1, UNBOUNDED)
            return inputs[0].name, least, most
    raise ForeignModelError(
        f"the model's input is {described or 'missing'}, and the card names {features} features, "
        f"which come as one tensor(float) [rows, {features}]"
    )


def _not_numbers(output: Any) -> str:
    hint = "name the output of probabilities, such as score: probabilities, in the card"
    if output.type.startswith("seq"):
        hint = "export without ZipMap (zipmap=False in skl2onnx and onnxmltools)"
    return f"output {output.name!r} of the model is {output.type}, no tensor of floats: {hint}"
