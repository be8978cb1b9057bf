"""Alerts say why, in the report and when asked; the frauds named are those that are known."""

import shutil
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from batch_assets.errors import BatchAssetsError
from batch_assets.fraud import tables
from batch_assets.fraud.explain import explain
from batch_assets.fraud.features import FEATURES
from batch_assets.fraud.keys import REPORT
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.fraud.queries import alerts
from batch_assets.fraud.register import register
from batch_assets.fraud.scorer import MODEL
from batch_assets_tests.fraud.zone import (
    START,
    Zone,
    a_day_of_rows,
    days,
    put_any_model_live,
    rows_of,
)
from batch_assets_tests.inference.foreign_models import Network, card_of, exported

DAYS = 11
LAST = START + timedelta(days=DAYS - 1)
FRAUDS = [str(row[0]) for day in days(4) for row in a_day_of_rows(day)[::4]]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose days are scored; not to be changed."""
    home = tmp_path_factory.mktemp("explain") / "home"
    home.mkdir()
    zone = Zone(home).describe()
    for day in days(DAYS):
        zone.deliver(day, a_day_of_rows(day))
    for day in days(4):
        frauds = [(row[0], row[4], 1) for row in a_day_of_rows(day)[::4]]
        zone.label(day + timedelta(days=7), frauds)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("BATCH_ASSETS_HOME", str(home))
        pipeline = zone.pipeline()
        put_any_model_live(pipeline)
        pipeline.update(days(DAYS))
    return home


@pytest.fixture
def pipeline(built: Path, home: Path) -> Pipeline:
    """The same, to be changed."""
    shutil.copytree(built, home, dirs_exist_ok=True)
    return Zone(home).pipeline()


def test_an_explanation_has_the_stored_score_and_adds_up_to_it(pipeline: Pipeline) -> None:
    for row in rows_of(pipeline, tables.FRAUD_PREDICTIONS)[:5]:
        found = explain(pipeline, row["transaction_id"])
        assert found["score"] == row["score"]
        assert found["model_version"] == row["model_version"]
        assert found["notes"] == []
        assert set(found["contributions"]) == {feature.name for feature in FEATURES}
        usual, score = (np.log(p / (1 - p)) for p in (found["usual_score"], found["score"]))
        assert sum(found["contributions"].values()) == pytest.approx(score - usual, abs=1e-4)
        weights = [reason["contribution"] for reason in found["reasons"]]
        assert weights == sorted(weights, reverse=True)
        assert all(weight > 0 for weight in weights)


def test_the_nearest_known_frauds_are_labelled_ones_and_not_the_transaction(
    pipeline: Pipeline,
) -> None:
    found = explain(pipeline, FRAUDS[0], neighbours=4)["nearest_known_frauds"]
    assert len(found) == 4
    assert {row["transaction_id"] for row in found} <= set(FRAUDS[1:])
    assert [row["distance"] for row in found] == sorted(row["distance"] for row in found)
    assert {(row["known_on"] - row["day"]).days for row in found} == {7}


def test_frauds_that_another_model_scored_are_not_compared(pipeline: Pipeline) -> None:
    put_any_model_live(pipeline, seed=1)
    pipeline.update([LAST])
    of_last = str(a_day_of_rows(LAST)[0][0])
    assert explain(pipeline, of_last)["nearest_known_frauds"] == []
    before = explain(pipeline, FRAUDS[0])
    assert before["nearest_known_frauds"]
    assert before["model_version"] != pipeline.models.live("fraud_model")


def test_the_report_and_the_alerts_say_what_explain_says(pipeline: Pipeline) -> None:
    report = [r for r in rows_of(pipeline, tables.DAILY_RISK_REPORT) if r["day"] == LAST]
    assert len(report) == 5  # customers of a day
    shown = {row["transaction_id"]: row["reasons"] for row in alerts(pipeline, LAST, 9).to_pylist()}
    for row in report:
        asked = explain(pipeline, row["transaction_id"], top=3)["reasons"]
        assert row["reasons"] == [reason["text"] for reason in asked]
        assert shown[row["transaction_id"]] == row["reasons"]
    assert any(row["reasons"] for row in report)


def test_alerts_come_without_reasons_where_the_report_is_not_built(pipeline: Pipeline) -> None:
    put_any_model_live(pipeline, seed=1)
    from batch_assets.fraud.keys import PREDICTIONS

    pipeline.build(PREDICTIONS, [LAST])
    found = alerts(pipeline, LAST, 9).to_pylist()
    assert len(found) == 5
    assert {row["reasons"] for row in found} == {None}
    pipeline.build(REPORT, [LAST])
    assert all(row["reasons"] is not None for row in alerts(pipeline, LAST, 9).to_pylist())


def test_what_changed_since_it_was_scored_is_said(pipeline: Pipeline) -> None:
    from batch_assets.fraud.keys import CLEAN, TOTALS
    from batch_assets.fraud.keys import FEATURES as FEATURES_STEP

    zone = Zone(pipeline.settings.home)
    day = LAST - timedelta(days=1)
    many = [(f"n{n}", "c0", "s0", "9900.00", f"{day}T00:00:{n:02d}") for n in range(40)]
    zone.deliver(LAST, many, "more.csv")
    pipeline.ingest("transactions", [LAST])
    for step in (CLEAN, TOTALS, FEATURES_STEP):
        pipeline.build(step, [day])
    of = next(r for r in a_day_of_rows(day)[::-1] if r[1] == "c0")
    found = explain(pipeline, str(of[0]))
    assert any("has changed since it was scored" in note for note in found["notes"])


def test_a_model_from_elsewhere_is_compared_with_the_medians_of_the_day(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    inputs = ["amount", "customer_tx_count_7d"]
    (tmp_path / "model.pt2").write_bytes(exported(Network(2), 2))
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(card_of(inputs)))
    made = register(pipeline, tmp_path / "model.pt2", tmp_path / "card.yaml")
    pipeline.models.promote(made["version"], MODEL)
    pipeline.update([LAST])
    rows = [r for r in rows_of(pipeline, tables.TRANSACTION_FEATURES) if r["day"] == LAST]
    medians = np.array([[np.median([row[name] for row in rows]) for name in inputs]])
    with torch.inference_mode():
        logit = float(Network(2).eval()(torch.from_numpy(medians.astype(np.float32)))[0])
    for row in rows[:3]:
        found = explain(pipeline, row["transaction_id"])
        assert found["usual_score"] == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-6)
        assert set(found["contributions"]) == set(inputs)
        score = np.log(found["score"] / (1 - found["score"]))
        assert sum(found["contributions"].values()) == pytest.approx(score - logit, abs=1e-4)


def test_an_unknown_transaction_is_named(pipeline: Pipeline) -> None:
    with pytest.raises(BatchAssetsError, match="'nobody' is not scored"):
        explain(pipeline, "nobody")
