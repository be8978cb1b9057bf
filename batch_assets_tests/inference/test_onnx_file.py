"""ONNX models give what the module gave that they were made of, or are refused in a line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from batch_assets.inference.foreign import ONNX, kind_of
from batch_assets_tests.inference.foreign_models import FEATURES, Network, onnx_of
from batch_assets_tests.inference.test_foreign import (
    assert_scores_as_eager,
    checked,
    network_of,
    refusal,
)

REASON = "the extra 'onnx' is not installed"
onnx = pytest.importorskip("onnx", reason=REASON)
pytest.importorskip("onnxruntime", reason=REASON)

CLASSES: dict[str, Any] = {"output": "probability", "score": "probabilities", "embedding": 2}
LOGITS: dict[str, Any] = {"output": "logit", "score": 3, "embedding": "embedding"}


def bytes_of(model: Any) -> bytes:
    content: bytes = model.SerializeToString()
    return content


@pytest.mark.parametrize("card", [CLASSES, LOGITS])
def test_a_graph_gives_what_the_module_gave(card: dict[str, Any]) -> None:
    content = bytes_of(onnx_of(Network()))
    assert kind_of(content) == ONNX
    assert checked(content, ONNX, **card).notes == ()
    assert_scores_as_eager(network_of(content, ONNX, **card), Network())


def test_a_graph_of_a_fixed_number_of_rows_is_fed_that_many() -> None:
    content = bytes_of(onnx_of(Network(), rows=5))
    (note,) = checked(content, ONNX, **LOGITS).notes
    assert "exported for 5 rows" in note
    assert_scores_as_eager(network_of(content, ONNX, **LOGITS), Network())


def test_labels_are_no_scores() -> None:
    message = refusal(bytes_of(onnx_of(Network())), ONNX, **CLASSES | {"score": 0})
    assert "output 'label' of the model is tensor(int64)" in message
    assert "score: probabilities" in message


def test_maps_are_no_scores() -> None:
    model = onnx_of(Network())
    node = onnx.helper.make_node(
        "ZipMap", ["probabilities"], ["maps"], domain="ai.onnx.ml", classlabels_int64s=[0, 1]
    )
    model.graph.node.append(node)
    model.opset_import.append(onnx.helper.make_opsetid("ai.onnx.ml", 1))
    number = onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, [])
    maps = onnx.helper.make_sequence_type_proto(
        onnx.helper.make_map_type_proto(onnx.TensorProto.INT64, number)
    )
    model.graph.output.append(onnx.helper.make_value_info("maps", maps))
    assert "zipmap=False" in refusal(bytes_of(model), ONNX, **CLASSES | {"score": "maps"})


def test_damaged_files_are_refused() -> None:
    content = bytes_of(onnx_of(Network()))
    for part in (content[: len(content) // 2], content[:-3], content[:2]):
        message = refusal(part, ONNX, **LOGITS)
        assert "damaged" in message or "no ONNX model" in message


def test_weights_in_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(onnx_of(Network()), path, save_as_external_data=True, size_threshold=0)
    message = refusal(path.read_bytes(), ONNX, **LOGITS)
    assert "hidden.weight" in message
    assert "save_as_external_data=False" in message


def test_what_onnxruntime_does_not_know_is_refused() -> None:
    newer = onnx_of(Network(), opset=999)
    assert "onnxruntime" in refusal(bytes_of(newer), ONNX, **LOGITS)
    own = onnx_of(Network())
    own.graph.node[1].op_type, own.graph.node[1].domain = "Twice", "of.a.test"
    own.opset_import.append(onnx.helper.make_opsetid("of.a.test", 1))
    message = refusal(bytes_of(own), ONNX, **LOGITS)
    assert "Twice" in message
    assert "no operators of your own" in message


def test_inputs_that_do_not_fit_are_refused() -> None:
    message = refusal(bytes_of(onnx_of(Network(features=3))), ONNX, **LOGITS)
    assert "card names 4 features" in message
    model = onnx_of(Network())
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    refusal(bytes_of(model), ONNX, **LOGITS)


def test_threads_share_a_session() -> None:
    network = network_of(bytes_of(onnx_of(Network())), ONNX, **LOGITS)
    rows = torch.from_numpy(np.ones((512, FEATURES), np.float32))
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        results = [scores.numpy() for scores, _ in pool.map(network, [rows] * 20)]
    assert len({result.tobytes() for result in results}) == 1
