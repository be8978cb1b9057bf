"""Programs of other makers give what they gave where they were made, or are refused in a line."""

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from batch_assets.inference.foreign import (
    TORCH_EXPORT,
    ForeignNetwork,
    kind_of,
    load_network,
)
from batch_assets.inference.foreign_card import ForeignModelError, card_from
from batch_assets.inference.foreign_check import check_on
from batch_assets.inference.scoring import Scorer
from batch_assets_tests.inference.foreign_models import (
    FEATURES,
    Network,
    card_of,
    changed,
    exported,
    with_json,
)

NAMES = ["amount", "count", "share", "gap"]
SIZE = 64
CPU = torch.device("cpu")
ROWS = np.random.default_rng(1).normal(size=(700, FEATURES)).astype(np.float32)
MODEL = "models/model.json"


def network_of(content: bytes, kind: str = TORCH_EXPORT, **fields: Any) -> ForeignNetwork:
    return load_network(kind, content, card_from(card_of(NAMES, **fields)), SIZE, CPU)


def checked(content: bytes, kind: str = TORCH_EXPORT, **fields: Any) -> Any:
    return check_on(network_of(content, kind, **fields), ROWS, CPU)


def refusal(content: bytes, kind: str = TORCH_EXPORT, **fields: Any) -> str:
    with pytest.raises(ForeignModelError) as refused:
        checked(content, kind, **fields)
    message = str(refused.value)
    assert "\n" not in message
    return message


def eager(model: nn.Module, rows: np.ndarray = ROWS) -> tuple[np.ndarray, np.ndarray]:
    with torch.inference_mode():
        logits, embedding = model.eval()(torch.from_numpy(rows))
        return torch.sigmoid(logits).numpy(), embedding.numpy()


def assert_scores_as_eager(network: nn.Module, model: nn.Module) -> None:
    scores, vectors = Scorer(network, NAMES, device="cpu", threads=2).score_matrix(ROWS)
    expected, embedding = eager(model)
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    np.testing.assert_allclose(vectors[:, : embedding.shape[1]], embedding, atol=1e-5)
    assert not vectors[:, embedding.shape[1] :].any()


def test_a_program_gives_what_the_module_gave() -> None:
    model = Network()
    content = exported(model)
    assert kind_of(content) == TORCH_EXPORT
    found = checked(content)
    assert found.vectors == "embedding, 8 numbers filled up to 64"
    assert found.notes == ()
    assert_scores_as_eager(network_of(content), model)


@pytest.mark.parametrize("sample", [1, 6])
def test_a_program_of_a_fixed_number_of_rows_is_fed_that_many(sample: int) -> None:
    model = Network()
    content = exported(model, rows=None, sample=sample)
    (note,) = checked(content).notes
    assert f"exported for {sample} row" in note
    assert_scores_as_eager(network_of(content), model)


def test_a_program_of_a_range_of_rows_is_fed_so_many() -> None:
    model = Network()
    content = exported(model, rows=torch.export.Dim("rows", min=3, max=100))
    assert checked(content).notes == ()
    assert_scores_as_eager(network_of(content), model)


@pytest.mark.gpu
def test_a_program_runs_on_a_gpu() -> None:
    device, card = torch.device("cuda"), card_from(card_of(NAMES))
    network = load_network(TORCH_EXPORT, exported(Network()), card, SIZE, device)
    check_on(network, ROWS, device)
    scores, vectors = Scorer(network, NAMES, device="cuda").score_matrix(ROWS)
    expected, embedding = eager(Network())
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    np.testing.assert_allclose(vectors[:, : embedding.shape[1]], embedding, atol=1e-3)


class ByName(Network):
    def forward(self, rows: Tensor) -> Any:
        logit, embedding = super().forward(rows)
        return {"vector": embedding, "fraud": logit}


def test_outputs_can_be_named() -> None:
    content = exported(ByName())
    assert_scores_as_eager(network_of(content, score="fraud", embedding="vector"), Network())
    message = refusal(content, score="frauds", embedding="vector")
    assert "score is output 'frauds'" in message
    assert "'vector'" in message
    assert "'fraud'" in message


def test_scaling_is_done_in_the_order_of_its_fields() -> None:
    scaling = {
        "amount": {"log1p": True, "mean": 2.0, "std": 4.0, "clip": [0, 1000], "missing": 10.0},
        "gap": {"missing": -1.0},
    }
    network = network_of(exported(Network()), scaling=scaling)
    rows = np.array(
        [[np.nan, 1.0, 2.0, np.nan], [5000.0, 1.0, 2.0, 3.0], [-7.0, np.nan, 2.0, 3.0]], np.float32
    )
    expected = np.array(
        [
            [(np.log(11.0) - 2) / 4, 1.0, 2.0, -1.0],
            [(np.log(1001.0) - 2) / 4, 1.0, 2.0, 3.0],
            [-0.5, np.nan, 2.0, 3.0],
        ]
    )
    np.testing.assert_allclose(network.scaled(torch.from_numpy(rows)), expected, rtol=1e-6)


class ScoreAlone(Network):
    def forward(self, rows: Tensor) -> Any:
        return super().forward(rows)[0]


def test_without_an_embedding_the_vector_is_the_scaled_features() -> None:
    scaling = {"amount": {"mean": 1.0, "std": 2.0}}
    network = network_of(exported(ScoreAlone()), embedding=None, scaling=scaling)
    scores, vectors = network(torch.from_numpy(ROWS))
    scaled = ROWS.copy()
    scaled[:, 0] = (scaled[:, 0] - 1) / 2
    np.testing.assert_allclose(scores.detach(), eager(Network(), scaled)[0], atol=1e-6)
    np.testing.assert_allclose(vectors[:, :FEATURES].detach(), np.arcsinh(scaled), rtol=1e-4)
    assert vectors.shape == (len(ROWS), SIZE)


def test_a_wide_embedding_keeps_about_its_distances() -> None:
    network = network_of(exported(Network(size=300)))
    found = check_on(network, ROWS, CPU)
    assert found.vectors == "embedding, 300 numbers projected to 64"
    vectors = network(torch.from_numpy(ROWS))[1].detach()
    wide = torch.from_numpy(eager(Network(size=300))[1])
    ratio = torch.pdist(vectors[:50]) / torch.pdist(wide[:50])
    assert abs(float(ratio.mean()) - 1) < 0.1
    assert float(ratio.std()) < 0.15


# What is refused, and why.


def test_pickles_are_recognised_by_content_and_never_read(tmp_path: Path) -> None:
    joblib = pytest.importorskip("joblib")
    trap = Trap(tmp_path / "sprung")
    torch_file, packed = io.BytesIO(), tmp_path / "model.onnx"
    torch.save({"weights": torch.ones(3), "trap": trap}, torch_file)
    joblib.dump(trap, packed, compress=3)
    old = io.BytesIO()
    with zipfile.ZipFile(old, "w") as archive:
        archive.writestr("serialized_exported_program.json", "{}")
        archive.writestr("serialized_state_dict.pt", torch_file.getvalue())
    files = [torch_file.getvalue(), packed.read_bytes(), old.getvalue()]
    for content in (pickle.dumps(trap), *files):
        with pytest.raises(
            ForeignModelError, match=r"pickle can run any code.*torch\.export\.save"
        ):
            kind_of(content)
    assert not trap.path.exists()


@pytest.mark.parametrize("content", [b"", b"tree\nversion=v4\n", b"PK\x03\x04 and no more", b"{}"])
def test_other_files_are_refused(content: bytes) -> None:
    with pytest.raises(ForeignModelError, match="nor an ONNX model"):
        kind_of(content)


class Trap:
    """Springs when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


def pickled_weight(document: Any) -> None:
    next(iter(document["config"].values()))["use_pickle"] = True


def opaque_constant(document: Any) -> None:
    document["config"] = {"x": {"path_name": "opaque_obj_0", "use_pickle": False}}


def test_nothing_in_an_archive_is_unpickled(tmp_path: Path) -> None:
    content, trap = exported(Network()), Trap(tmp_path / "sprung")
    saved = io.BytesIO()
    torch.save((trap,), saved)
    samples = {"data/sample_inputs/model.pt": lambda _: saved.getvalue()}
    assert "sample inputs in the .pt2 archive are pickled" in refusal(changed(content, samples))
    weights = {
        "data/weights/model_weights_config.json": with_json(pickled_weight),
        "data/weights/weight_0": lambda _: saved.getvalue(),
    }
    assert "is pickled" in refusal(changed(content, weights))
    constants = {
        "data/constants/model_constants_config.json": with_json(opaque_constant),
        "data/constants/opaque_obj_0": lambda _: pickle.dumps(trap),
    }
    assert "opaque_obj_0" in refusal(changed(content, constants))
    native = {"data/aotinductor/model/x.so": lambda _: b"\x7fELF"}
    assert "data/aotinductor/model/x.so" in refusal(changed(content, native))
    assert not trap.path.exists()


def nodes_of(document: Any) -> list[Any]:
    return document["graph_module"]["graph"]["nodes"]


def test_no_text_in_an_archive_becomes_code(tmp_path: Path) -> None:
    path = tmp_path / "sprung"
    content, code = exported(Network()), f"__import__('os').mkdir('{path}')"

    def operator(document: Any) -> None:
        nodes_of(document)[0]["target"] = "torch.os.mkdir"

    def guard(document: Any) -> None:
        document["guards_code"] = [code]

    def name(document: Any) -> None:
        graph = document["graph_module"]["graph"]
        graph["inputs"][0]["as_tensor"]["name"] = f"x={code}"

    def shape(document: Any) -> None:
        values = document["graph_module"]["graph"]["tensor_values"]
        sizes = next(v["sizes"] for v in values.values() if "as_expr" in v["sizes"][0])
        sizes[0]["as_expr"]["expr_str"] = code

    def hidden_shape(document: Any) -> None:
        shape(document)
        values = document["graph_module"]["graph"]["tensor_values"]
        name = next(n for n, v in values.items() if "as_expr" in v["sizes"][0])
        values["metadata"] = values.pop(name)

    def attribute(document: Any) -> None:
        nodes_of(document)[0]["target"] = "torch.ops.aten.__class__.mro"

    for change, said in (
        (operator, "torch.os.mkdir"),
        (attribute, "__class__"),
        (name, "only letters"),
        (shape, "a shape"),
        (hidden_shape, "a shape"),
    ):
        assert said in refusal(changed(content, {MODEL: with_json(change)}))
    checked(changed(content, {MODEL: with_json(guard)}))  # guards are not run
    assert not path.exists()


@torch.library.custom_op("of_a_test::twice", mutates_args=())
def twice(rows: Tensor) -> Tensor:
    return rows * 2


@twice.register_fake
def _(rows: Tensor) -> Tensor:
    return torch.empty_like(rows)


class WithCustomOperator(Network):
    def forward(self, rows: Tensor) -> Any:
        return super().forward(twice(rows))


def test_operators_of_others_are_named() -> None:
    assert "torch.ops.of_a_test.twice" in refusal(exported(WithCustomOperator()))


def test_damaged_archives_are_refused() -> None:
    content = exported(Network())
    for wrong in (b"[]", b"{}", b"null"):
        refusal(changed(content, {MODEL: lambda _, new=wrong: new}))  # type: ignore[misc]
    for part in (content[: len(content) // 2], content[:-30], content.replace(b"{", b"[")):
        assert "damaged" in refusal(part)


class TwoInputs(Network):
    def forward(self, rows: Tensor, more: Tensor | None = None) -> Any:
        return super().forward(rows + (rows if more is None else more))


def with_two_inputs() -> bytes:
    file, one = io.BytesIO(), torch.ones(4, FEATURES)
    torch.export.save(torch.export.export(TwoInputs(), (one, one)), file)
    return file.getvalue()


def test_inputs_that_do_not_fit_are_refused() -> None:
    assert "float32 [s" in refusal(exported(Network(features=3), features=3))
    assert "card names 4 features" in refusal(exported(Network(features=3), features=3))
    assert "float64" in refusal(exported(Network().double(), dtype=torch.float64))
    assert "has 2 inputs" in refusal(with_two_inputs())


class Changed(Network):
    """What ``change`` makes of logit and embedding."""

    def __init__(self, change: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.change = change

    def forward(self, rows: Tensor) -> Any:
        return self.change(*super().forward(rows))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda logit, e: (logit, (e, e)), "nested"),
        (lambda logit, e: (e, e), "the score of 700 rows has the shape [700, 8]"),
        (lambda logit, e: (logit.long(), e), "the score is int64"),
        (lambda logit, e: (logit, logit), "the embedding of 700 rows has the shape [700]"),
        (lambda logit, e: (torch.log(-logit.abs() - 1), e), "of 700 of 700 rows is not finite"),
        (lambda logit, e: (logit.softmax(0), e), "other results among 1 rows"),
        (lambda logit, e: (logit.cumsum(0), e), "other results in another place"),
        (lambda logit, e: (logit + torch.rand_like(logit), e), "other results a second time"),
    ],
)
def test_outputs_that_do_not_do_are_refused(
    change: Callable[[Tensor, Tensor], Any], said: str
) -> None:
    assert said in refusal(exported(Changed(change)))


def test_logits_are_no_probabilities() -> None:
    message = refusal(exported(Network()), output="probability")
    assert "are no probabilities: put `output: logit`" in message


class Normalised(Network):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(FEATURES)

    def forward(self, rows: Tensor) -> Any:
        return super().forward(self.norm(rows))


def test_a_program_in_training_mode_is_refused() -> None:
    file, rows = io.BytesIO(), torch.randn(4, FEATURES)
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(Normalised().train(), (rows,), dynamic_shapes=shapes)
    torch.export.save(program, file)
    assert "export it in evaluation mode" in refusal(file.getvalue())
    checked(exported(Normalised()))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"title": None}, "title:"),
        ({"features": []}, "features:"),
        ({"features": ["amount", "amount"]}, "amount is named more than once"),
        ({"output": "probabilities"}, "output: Input should be 'probability' or 'logit'"),
        ({"score": -1}, "score: "),
        ({"scaling": {"amounts": {}}}, "scaling: amounts is not one of the features"),
        ({"scaling": {"amount": {"std": 0}}}, "scaling.amount.std:"),
        ({"scaling": {"amount": {"clip": [2, 1]}}}, "scaling.amount.clip: the lowest"),
        ({"outputs": 1}, "outputs: Extra inputs are not permitted"),
        ({"training_days": {"first": "May", "last": "2026-01-01"}}, "training_days.first:"),
    ],
)
def test_a_wrong_card_is_refused_by_field(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ForeignModelError) as refused:
        card_from(card_of(NAMES) | change)
    assert said in str(refused.value)


def test_missing_fields_are_all_named() -> None:
    with pytest.raises(ForeignModelError, match=r"title: .*features: .*output: "):
        card_from({})
    with pytest.raises(ForeignModelError, match="must have fields"):
        card_from("title")
