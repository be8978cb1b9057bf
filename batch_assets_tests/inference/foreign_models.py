"""Small models of other makers, written by the real exporters."""

import io
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

FEATURES = 4


class Network(nn.Module):
    """Logit [n] and embedding [n, size]."""

    def __init__(self, features: int = FEATURES, size: int = 8, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.hidden = nn.Linear(features, size)
        self.last = nn.Linear(size, 1)

    def forward(self, rows: Tensor) -> Any:
        embedding = torch.relu(self.hidden(rows))
        return self.last(embedding).squeeze(-1), embedding


def exported(
    model: nn.Module,
    features: int = FEATURES,
    rows: Any = torch.export.Dim.DYNAMIC,
    dtype: torch.dtype = torch.float32,
    sample: int = 4,
) -> bytes:
    """A ``.pt2`` archive; ``rows`` None fixes the number of rows to ``sample``."""
    inputs = (torch.ones(sample, features, dtype=dtype),)
    shapes = None if rows is None else ({0: rows},)
    file = io.BytesIO()
    torch.export.save(torch.export.export(model.eval(), inputs, dynamic_shapes=shapes), file)
    return file.getvalue()


def changed(content: bytes, records: dict[str, Callable[[bytes], bytes]]) -> bytes:
    """The archive with some records made of others; new ones are made of nothing."""
    reader = torch._C.PyTorchFileReader(io.BytesIO(content))
    file = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(file)
    there = [n for n in reader.get_all_records() if not n.startswith((".", "version", "byteorder"))]
    for name in {*there, *records}:
        old = bytes(reader.get_record(name)) if name in there else b""
        new = records[name](old) if name in records else old
        writer.write_record(name, new, len(new))
    writer.write_end_of_file()
    return file.getvalue()


def with_json(change: Callable[[Any], None]) -> Callable[[bytes], bytes]:
    """Changes a JSON document in place."""

    def apply(old: bytes) -> bytes:
        document = json.loads(old)
        change(document)
        return json.dumps(document).encode()

    return apply


def onnx_of(network: Network, rows: str | int = "rows", **changes: Any) -> Any:
    """An ONNX model, as an object, that computes what the network does, and its probability."""
    from onnx import TensorProto, helper, numpy_helper

    weights = {
        name: numpy_helper.from_array(tensor.detach().numpy().copy(), name)
        for name, tensor in network.state_dict().items()
    }
    features = network.hidden.in_features
    nodes = [
        helper.make_node("Gemm", ["rows", "hidden.weight", "hidden.bias"], ["before"], transB=1),
        helper.make_node("Relu", ["before"], ["embedding"]),
        helper.make_node("Gemm", ["embedding", "last.weight", "last.bias"], ["logit"], transB=1),
        helper.make_node("Sigmoid", ["logit"], ["probability"]),
        helper.make_node("Sub", ["one", "probability"], ["genuine"]),
        helper.make_node("Concat", ["genuine", "probability"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
    ]
    weights["one"] = numpy_helper.from_array(np.ones(1, np.float32), "one")
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, [rows, features])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, [rows]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [rows, 2]),
            helper.make_tensor_value_info(
                "embedding", TensorProto.FLOAT, [rows, network.hidden.out_features]
            ),
            helper.make_tensor_value_info("logit", TensorProto.FLOAT, [rows, 1]),
        ],
        list(weights.values()),
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", changes.get("opset", 21))], ir_version=10
    )


def card_of(features: Sequence[str], **fields: Any) -> dict[str, Any]:
    """What a person would write for ``Network``."""
    return {
        "title": "a small network",
        "features": list(features),
        "output": "logit",
        "score": 0,
        "embedding": 1,
        **fields,
    }
