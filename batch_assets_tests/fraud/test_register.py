"""A model of another maker is scored and served as ours, with nothing but a file and a card."""

import json
import re
import textwrap
from datetime import timedelta
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pytest
import torch
import yaml

from batch_assets.errors import BatchAssetsError
from batch_assets.fraud import tables
from batch_assets.fraud.embeddings import EMBEDDINGS
from batch_assets.fraud.features import FEATURES
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.fraud.register import register
from batch_assets.fraud.scorer import MODEL
from batch_assets.storage.models import DamagedModelError
from batch_assets_tests.fraud.zone import (
    START,
    Zone,
    a_day_of_rows,
    days,
    put_any_model_live,
    rows_of,
)
from batch_assets_tests.inference.foreign_models import Network, card_of, exported, onnx_of

NAMES = [feature.name for feature in FEATURES]
INPUTS = [NAMES[5], NAMES[0], NAMES[1]]
SCALING = {NAMES[0]: {"log1p": True, "mean": 2.0, "std": 3.0}}
DAY = START + timedelta(days=1)


@pytest.fixture
def pipeline(home: Path) -> Pipeline:
    """Two days of features, and no model."""
    zone = Zone(home).describe()
    for day in days(2):
        zone.deliver(day, a_day_of_rows(day))
    pipeline = zone.pipeline()
    pipeline.update(days(2))
    return pipeline


def files(folder: Path, content: bytes, **fields: Any) -> tuple[Path, Path]:
    model, card = folder / "model.bin", folder / "card.yaml"
    model.write_bytes(content)
    card.write_text(yaml.safe_dump(card_of(INPUTS, scaling=SCALING, **fields)))
    return model, card


def expected(pipeline: Pipeline) -> dict[str, tuple[float, np.ndarray]]:
    """Score and embedding of each transaction, as the module itself gives them."""
    rows = rows_of(pipeline, tables.TRANSACTION_FEATURES)
    matrix = np.array([[row[name] for name in INPUTS] for row in rows], np.float32)
    matrix[:, 1] = (np.log1p(matrix[:, 1]) - 2) / 3
    with torch.inference_mode():
        logits, embedding = Network(len(INPUTS)).eval()(torch.from_numpy(matrix))
    scores = torch.sigmoid(logits).tolist()
    return {
        row["transaction_id"]: (score, vector)
        for row, score, vector in zip(rows, scores, embedding.numpy(), strict=True)
    }


def assert_both_stores_hold(pipeline: Pipeline, version: str) -> None:
    wanted = expected(pipeline)
    predictions = rows_of(pipeline, tables.FRAUD_PREDICTIONS)
    stored = lance.dataset(pipeline.vectors.table_uri(EMBEDDINGS)).to_table().to_pylist()
    for rows in (predictions, stored):
        assert {row["transaction_id"] for row in rows} == set(wanted)
        assert {row["model_version"] for row in rows} == {version}
        for row in rows:
            assert row["score"] == pytest.approx(wanted[row["transaction_id"]][0], abs=1e-6)
    for row in stored:
        embedding = wanted[row["transaction_id"]][1]
        np.testing.assert_allclose(row["vector"][: len(embedding)], embedding, atol=1e-5)
        assert not any(row["vector"][len(embedding) :])


def test_a_program_is_registered_promoted_and_scored(pipeline: Pipeline, tmp_path: Path) -> None:
    found = register(pipeline, *files(tmp_path, exported(Network(len(INPUTS)), len(INPUTS))))
    assert (found["kind"], found["state"]) == ("torch_export", "candidate")
    assert found["sample"] == "24 rows of 2026-01-01 to 2026-01-02"
    assert pipeline.models.live(MODEL) is None
    pipeline.models.promote(found["version"], MODEL)
    pipeline.update(days(2))
    assert_both_stores_hold(pipeline, found["version"])


def test_an_onnx_model_is_registered_promoted_and_scored(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
    content = onnx_of(Network(len(INPUTS))).SerializeToString()
    card = {"output": "probability", "score": "probabilities", "embedding": "embedding"}
    found = register(pipeline, *files(tmp_path, content, **card))
    assert found["kind"] == "onnx"
    pipeline.models.promote(found["version"], MODEL)
    pipeline.update(days(2))
    assert_both_stores_hold(pipeline, found["version"])


def test_beside_a_live_model_it_is_compared_and_stays_a_candidate(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    live = put_any_model_live(pipeline)
    content = exported(Network(len(INPUTS)), len(INPUTS))
    found = register(pipeline, *files(tmp_path, content))
    assert "does not say on which days it was trained" in found["decision"]
    comparison = pipeline.models.comparison(found["version"], MODEL)
    assert comparison is not None
    assert comparison["live"] == live
    assert (found["state"], pipeline.models.live(MODEL)) == ("candidate", live)


def test_the_same_file_and_card_are_the_same_version(pipeline: Pipeline, tmp_path: Path) -> None:
    content = exported(Network(len(INPUTS)), len(INPUTS))
    version = register(pipeline, *files(tmp_path, content))["version"]
    assert register(pipeline, *files(tmp_path, content, metrics={"auc": 0.9}))["version"] == version
    other = register(pipeline, *files(tmp_path, content, description="other"))["version"]
    assert other != version
    pipeline.models.promote(version, MODEL)
    assert register(pipeline, *files(tmp_path, content))["state"] == "live"


def test_the_version_holds_the_file_and_what_was_said(pipeline: Pipeline, tmp_path: Path) -> None:
    content = exported(Network(len(INPUTS)), len(INPUTS))
    trained = {"first": "2026-01-01", "last": "2026-01-02"}
    paths = files(tmp_path, content, training_days=trained)
    version = register(pipeline, *paths)["version"]
    model = pipeline.models.load(version, MODEL)
    assert model.files == {"model.pt2": content}
    assert model.features == INPUTS
    assert model.card["training_days"] == trained
    stored = pipeline.models.root / MODEL / version / "model.pt2"
    stored.write_bytes(content[:-1])
    with pytest.raises(DamagedModelError, match=r"model\.pt2 has other content"):
        pipeline.models.load(version, MODEL)


def test_a_wide_embedding_is_stored_at_the_size_of_all(pipeline: Pipeline, tmp_path: Path) -> None:
    wide = exported(Network(len(INPUTS), size=200), len(INPUTS))
    found = register(pipeline, *files(tmp_path, wide))
    assert "200 numbers projected to 64" in found["vectors"]
    pipeline.models.promote(found["version"], MODEL)
    pipeline.update([DAY])
    stored = lance.dataset(pipeline.vectors.table_uri(EMBEDDINGS)).to_table().to_pylist()
    assert {len(row["vector"]) for row in stored} == {64}
    assert all(any(row["vector"]) for row in stored)


def test_the_example_of_the_documents_is_accepted(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (Path(__file__).parents[2] / "docs/models.md").read_text(encoding="utf-8")
    blocks = re.findall(r" *```(python|yaml)\n(.*?)```", text, flags=re.DOTALL)
    of_torch = [textwrap.dedent(block) for _, block in blocks[:3]]
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for code in of_torch[:2]:
        exec(code, names)
    Path("card.yaml").write_text(of_torch[2])
    pipeline = Zone(home).describe().pipeline()
    found = register(pipeline, Path("model.pt2"), Path("card.yaml"))
    assert found["kind"] == "torch_export"
    assert not any("exported for" in note for note in found["notes"])
    assert "embedding, 32 numbers" in found["vectors"]


def test_without_features_made_up_rows_are_tried(home: Path, tmp_path: Path) -> None:
    pipeline = Zone(home).describe().pipeline()
    card = tmp_path / "card.json"
    card.write_text(json.dumps(card_of(INPUTS)))
    model, _ = files(tmp_path, exported(Network(len(INPUTS)), len(INPUTS)))
    assert "made-up rows" in register(pipeline, model, card)["sample"]


def refusal(pipeline: Pipeline, model: Path, card: Path) -> str:
    with pytest.raises(BatchAssetsError) as refused:
        register(pipeline, model, card)
    assert pipeline.models.versions() == []
    return str(refused.value)


def test_what_is_refused_is_named_and_not_kept(home: Path, tmp_path: Path) -> None:
    pipeline = Zone(home).describe().pipeline()
    model, card = files(tmp_path, b"\x80\x04K\x01.")
    assert refusal(pipeline, model, card).startswith(f"{model} is refused: it is a pickle")
    assert refusal(pipeline, tmp_path / "none.pt2", card).endswith("No such file or directory")
    model, card = files(tmp_path, exported(Network(2), 2))
    assert "card names 3 features" in refusal(pipeline, model, card)
    card.write_text("title: [")
    assert refusal(pipeline, model, card).startswith(f"{card} is refused: it is neither YAML")
    card.write_text("title: x")
    assert "features: Field required; output: Field required" in refusal(pipeline, model, card)


def test_features_that_the_table_has_not_are_named(home: Path, tmp_path: Path) -> None:
    pipeline = Zone(home).describe().pipeline()
    model, card = files(tmp_path, b"")
    wrong = [NAMES[0], NAMES[1][:-1], "colour of the sky"]
    card.write_text(json.dumps(card_of(wrong)))
    message = refusal(pipeline, model, card)
    assert f"{NAMES[1][:-1]!r} (did you mean {NAMES[1]!r}?)" in message
    assert "'colour of the sky'" in message
    assert f"{NAMES[0]!r}" not in message.split(": its features are")[0]
