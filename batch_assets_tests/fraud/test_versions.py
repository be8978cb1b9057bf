"""A new version goes live only if it is better on days that neither version has seen."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from batch_assets.errors import BatchAssetsError
from batch_assets.fraud import versions
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.fraud.rescoring import days_to_rescore, outdated_by_model
from batch_assets.fraud.run import outdated_days
from batch_assets.fraud.scorer import MODEL
from batch_assets.fraud.training_data import labelled_days
from batch_assets.fraud.versions import (
    LEAST_FRAUDS,
    comparison_days,
    judge,
    listed,
    promote_by_hand,
    roll_back,
    verdict,
)
from batch_assets_tests.fraud.runs import materializations, run
from batch_assets_tests.fraud.zone import (
    START,
    Zone,
    a_day_of_rows,
    contents,
    days,
    put_any_model_live,
    save_any_model,
)

DAYS = 24
DELAY = 7
LABELLED = days(DAYS - DELAY)
ROWS = 12


def deliver(zone: Zone, which: list[date]) -> None:
    """Rows of some days, of which the dear ones are frauds."""
    for day in which:
        rows = a_day_of_rows(day, ROWS)
        zone.deliver(day, rows)
        zone.label(day, [(row[0], row[4], int(float(str(row[3])) > 50)) for row in rows])


def trained(first: date, last: date) -> dict[str, Any]:
    return {"training_days": {"first": str(first), "last": str(last), "count": 1}}


@dataclass(frozen=True)
class Built:
    """A home with features and labels, and in another folder versions, the worst first."""

    home: Path
    models: Path
    ranked: list[str]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    home = tmp_path_factory.mktemp("built") / "home"
    home.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BATCH_ASSETS_HOME", str(home))
        zone = Zone(home).describe()
        deliver(zone, days(DAYS))
        pipeline = zone.pipeline()
        pipeline.update(days(DAYS))
        early = trained(START, days(5)[-1])
        first, *others = (save_any_model(pipeline, seed, **early) for seed in range(6))
        pipeline.models.promote(first, MODEL)
        precision: dict[str, float] = {}
        for version in others:
            metrics = versions.compare(pipeline, version, first)["metrics"]
            precision |= {v: metrics[v]["average_precision"] for v in metrics}
        shutil.rmtree(home / "models" / MODEL / "promotions")
        models = shutil.move(home / "models", home.parent / "models")
        yield Built(home, Path(models), sorted(precision, key=precision.__getitem__))


@pytest.fixture
def pipeline(home: Path, built: Built) -> Pipeline:
    """Days with features and labels, and no model."""
    shutil.copytree(built.home, home, dirs_exist_ok=True)
    return Zone(home).pipeline()


@pytest.fixture
def ranked(pipeline: Pipeline, built: Built) -> list[str]:
    """Versions, the worst first, all of them trained on the first five days, so they say."""
    shutil.copytree(built.models, pipeline.models.root)
    return built.ranked


def test_the_first_version_goes_live(pipeline: Pipeline) -> None:
    version = save_any_model(pipeline)
    comparison = judge(pipeline, version)
    assert comparison["reason"] == "first model"
    assert pipeline.models.live(MODEL) == version
    (promotion,) = pipeline.models.promotions(MODEL)
    assert promotion.why == "first model"


def test_a_better_candidate_goes_live_and_says_by_how_much(
    pipeline: Pipeline, ranked: list[str]
) -> None:
    worst, best = ranked[0], ranked[-1]
    pipeline.models.promote(worst, MODEL)
    comparison = judge(pipeline, best)
    assert comparison["better"]
    assert pipeline.models.live(MODEL) == best
    assert pipeline.models.state(worst, MODEL) == "retired"
    assert pipeline.models.comparison(best, MODEL) == comparison
    gain = np.subtract(*[comparison["metrics"][v]["average_precision"] for v in (best, worst)])
    when = f"on {LABELLED[-7]} to {LABELLED[-1]}"
    why = f"beat {worst} by {gain:.4f} average precision {when}"
    assert pipeline.models.promotions(MODEL)[-1].why == comparison["reason"] == why
    assert comparison["rows"] == 7 * ROWS


def test_what_is_compared_is_what_the_scorer_gives_the_stored_rows(
    pipeline: Pipeline, ranked: list[str]
) -> None:
    pipeline.models.promote(ranked[0], MODEL)
    comparison = judge(pipeline, ranked[-1])
    pipeline.update(days(DAYS))
    found = contents(pipeline)
    frauds = {row["transaction_id"] for row in found["fraud_labels"] if row["is_fraud"]}
    rows = [row for row in found["fraud_predictions"] if row["day"] in LABELLED[-7:]]
    truth = [row["transaction_id"] in frauds for row in rows]
    assert comparison["frauds"] == sum(truth) >= LEAST_FRAUDS
    expected = average_precision_score(truth, [row["score"] for row in rows])
    measured = comparison["metrics"][ranked[-1]]["average_precision"]
    assert measured == pytest.approx(expected, abs=1e-5)


def test_a_worse_candidate_and_one_that_is_as_good_stay_candidates(
    pipeline: Pipeline, ranked: list[str]
) -> None:
    pipeline.models.promote(ranked[-1], MODEL)
    early = trained(START, days(5)[-1])
    twin = {save_any_model(pipeline, seed, **early, note="a twin") for seed in range(6)}
    for version in (ranked[0], *twin):
        comparison = judge(pipeline, version)
        assert not comparison["better"]
        assert comparison["reason"].startswith("average precision ")
        assert pipeline.models.comparison(version, MODEL) == comparison
        assert pipeline.models.state(version, MODEL) == "candidate"
    assert pipeline.models.live(MODEL) == ranked[-1]


def test_the_list_says_since_when_each_is_what_it_is_and_how_good_it_was(
    pipeline: Pipeline, ranked: list[str]
) -> None:
    worst, best = ranked[0], ranked[-1]
    metrics = {"validation_average_precision": 0.5, "validation_auc": 0.75}
    card = trained(START, LABELLED[-1]) | {"title": "theirs", "metrics": metrics}
    theirs = save_any_model(pipeline, 9, **card)
    pipeline.models.promote(worst, MODEL)
    comparison = judge(pipeline, best)
    judge(pipeline, theirs)
    rows = {row["version"]: row for row in listed(pipeline)}

    promotions = pipeline.models.promotions(MODEL)
    assert rows[worst]["state"] == "retired"
    assert rows[worst]["state_since"] == rows[best]["state_since"] == promotions[-1].at
    assert rows[best]["state"] == "live"
    assert rows[best]["auc"] == comparison["metrics"][best]["auc"]
    assert rows[best]["measured_on"] == f"{LABELLED[-7]} to {LABELLED[-1]}"
    assert rows[best]["bytes"] > 1000
    assert rows[theirs]["title"] == "theirs"
    assert rows[theirs]["state"] == "candidate"
    assert rows[theirs]["state_since"] == datetime.fromisoformat(rows[theirs]["created_at"])
    assert (rows[theirs]["average_precision"], rows[theirs]["auc"]) == (0.5, 0.75)
    assert rows[theirs]["measured_on"] == "its validation days"
    assert (rows[worst]["auc"], rows[worst]["measured_on"]) == (None, None)


def test_what_was_live_before_comes_back_by_a_person_only(
    pipeline: Pipeline, ranked: list[str]
) -> None:
    worst, best = ranked[0], ranked[-1]
    pipeline.models.promote(best, MODEL)
    pipeline.models.promote(worst, MODEL)
    assert "only a person" in judge(pipeline, best)["reason"]
    assert judge(pipeline, worst)["reason"] == "it is the live one"
    assert pipeline.models.comparison(worst, MODEL) is None  # what is kept is how it went live
    assert pipeline.models.live(MODEL) == worst


def test_a_candidate_is_compared_with_what_is_live_when_it_goes_live(
    pipeline: Pipeline, ranked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    worst, middle, best = ranked[0], ranked[-2], ranked[-1]
    pipeline.models.promote(worst, MODEL)
    compare = versions.compare

    def and_meanwhile(pipeline: Pipeline, version: str, live: str | None) -> dict[str, Any]:
        comparison = compare(pipeline, version, live)
        pipeline.models.promote(best, MODEL)  # by a person, while the two were compared
        return comparison

    monkeypatch.setattr(versions, "compare", and_meanwhile)
    assert judge(pipeline, middle)["live"] == best
    assert pipeline.models.live(MODEL) == best


@pytest.mark.parametrize(
    ("card", "live_card", "says"),
    [
        (trained(START, LABELLED[-1]), {}, "no day with known labels"),
        ({}, trained(START, LABELLED[-1]), "no day with known labels"),
        (trained(START, LABELLED[-2]), {}, "too few to tell"),
        ({"training_days": None}, {}, "does not say on which days"),
        ({}, {"features": ["amount", "gone"]}, "cannot be compared"),
    ],
)
def test_without_days_that_tell_which_is_better_it_stays_a_candidate(
    pipeline: Pipeline, card: dict[str, Any], live_card: dict[str, Any], says: str
) -> None:
    live, candidate = (save_any_model(pipeline, n, **c) for n, c in enumerate((live_card, card)))
    pipeline.models.promote(live, MODEL)
    comparison = judge(pipeline, candidate)
    assert says in comparison["reason"]
    assert not comparison["better"]
    assert pipeline.models.comparison(candidate, MODEL) == comparison
    assert pipeline.models.live(MODEL) == live


def test_no_version_is_judged_on_days_that_it_was_trained_on_or_before(pipeline: Pipeline) -> None:
    state = pipeline.state()
    assert labelled_days(pipeline, state) == LABELLED
    for one, two in ((3, 12), (12, 3), (9, 9), (1, 2)):
        cards = [trained(START, days(DAYS)[last]) for last in (one, two)]
        both = [save_any_model(pipeline, n, **card) for n, card in enumerate(cards)]
        found = comparison_days(pipeline, state, both)
        assert found == [day for day in LABELLED if day > days(DAYS)[max(one, two)]][-7:]


def scored(frauds: int, others: int, order: list[float]) -> pa.Table:
    """Rows of two days and a customer each, the frauds first."""
    count = frauds + others
    return pa.table(
        {
            "day": [START + timedelta(days=n % 2) for n in range(count)],
            "customer_id": [f"c{n}" for n in range(count)],
            "is_fraud": [n < frauds for n in range(count)],
            "score": pa.array(order, pa.float32()),
        }
    )


@given(seeds=st.tuples(st.integers(0, 9), st.integers(0, 9)), margin=st.sampled_from([0, 0.05]))
def test_never_both_of_two_are_better_and_never_one_that_is_below(
    seeds: tuple[int, int], margin: float
) -> None:
    frauds, others = LEAST_FRAUDS, 300
    tables = {
        name: scored(frauds, others, list(np.random.default_rng(seed).random(frauds + others)))
        for name, seed in zip("ab", seeds, strict=True)
    }
    found = [verdict(tables, *names, margin) for names in (("a", "b"), ("b", "a"))]
    assert sum(one["better"] for one in found) <= 1
    for (new, old), one in zip((("a", "b"), ("b", "a")), found, strict=True):
        new_metrics, old_metrics = one["metrics"][new], one["metrics"][old]
        gain = new_metrics["average_precision"] - old_metrics["average_precision"]
        cards = new_metrics["card_precision_at_100"] - old_metrics["card_precision_at_100"]
        assert one["better"] == (gain > 0 and gain >= margin and cards >= 0)


def test_with_fewer_frauds_nobody_can_tell() -> None:
    for frauds, tells in ((LEAST_FRAUDS - 1, False), (LEAST_FRAUDS, True)):
        good = scored(frauds, 50, [1.0] * frauds + [0.0] * 50)
        bad = scored(frauds, 50, [0.0] * frauds + [1.0] * 50)
        found = verdict({"a": good, "b": bad}, "a", "b", 0.005)
        assert found["better"] is tells
        assert ("too few" in found["reason"]) is not tells


def test_a_person_promotes_a_worse_one_and_goes_back(pipeline: Pipeline, ranked: list[str]) -> None:
    worst, best = ranked[0], ranked[-1]
    judge(pipeline, best)
    done = promote_by_hand(pipeline, worst[:9])
    assert (done["version"], done["before"]) == (worst, best)
    assert pipeline.models.live(MODEL) == worst
    assert pipeline.models.promotions(MODEL)[-1].why == "a person"
    assert "already" in promote_by_hand(pipeline, worst)["text"][0]
    done = roll_back(pipeline)
    assert (done["version"], done["before"]) == (best, worst)
    assert pipeline.models.live(MODEL) == best
    with pytest.raises(BatchAssetsError, match="is the first"):
        roll_back(pipeline)


def scored_by(pipeline: Pipeline) -> dict[date, set[str]]:
    found: dict[date, set[str]] = {}
    for row in contents(pipeline)["fraud_predictions"]:
        found.setdefault(row["day"], set()).add(row["model_version"])
    return found


def test_a_promotion_outdates_what_others_scored_and_a_rollback_finds_it_as_it_was(
    pipeline: Pipeline,
) -> None:
    first = put_any_model_live(pipeline)
    pipeline.update(days(DAYS))
    before = contents(pipeline)
    second = save_any_model(pipeline, 1)
    done = promote_by_hand(pipeline, second)
    assert done["days_to_rescore"] == days(DAYS) == outdated_by_model(pipeline, days(DAYS))
    assert f"--from {START} --to {days(DAYS)[-1]}" in done["text"][2]
    pipeline.update(days(DAYS)[10:])
    assert scored_by(pipeline) == {
        day: {first if n < 10 else second} for n, day in enumerate(days(DAYS))
    }
    assert days_to_rescore(pipeline) == days(10)

    assert roll_back(pipeline)["days_to_rescore"] == days(DAYS)[10:]
    pipeline.update(days(DAYS)[10:])
    assert contents(pipeline) == before
    assert pipeline.stale_days(days(DAYS)) == []


def test_a_day_that_other_things_outdate_too_is_not_the_models(
    pipeline: Pipeline, home: Path
) -> None:
    put_any_model_live(pipeline)
    pipeline.update(days(DAYS))
    put_any_model_live(pipeline, 1)
    late = days(DAYS)[20]
    Zone(home).deliver(late, a_day_of_rows(late, salt="x"), "late.csv")
    pipeline.ingest("transactions", [late])
    assert outdated_by_model(pipeline, days(DAYS)) == days(20)
    text = promote_by_hand(pipeline, pipeline.models.live(MODEL) or "")["text"]
    assert text[1].startswith(f"another version scored 20 days, {START} to {days(20)[-1]}")
    assert text[2].startswith("4 other days are out of date")
    assert pipeline.stale_days(days(DAYS)) == days(DAYS)
    # a run of one day repairs what late rows changed, and leaves the model's days alone
    assert outdated_days(pipeline, START, START) == [START, *days(DAYS)[20:]]


@pytest.mark.parametrize(("bound", "expected"), [(0, []), (3, days(DAYS)[-3:]), (99, days(DAYS))])
def test_only_so_many_days_are_scored_again(
    pipeline: Pipeline, home: Path, bound: int, expected: list[date]
) -> None:
    put_any_model_live(pipeline)
    pipeline.update(days(DAYS))
    (home / "settings.toml").write_text(f"start_date = {START}\nrescore_days = {bound}\n")
    put_any_model_live(pipeline, 1)
    assert days_to_rescore(Zone(home).pipeline()) == expected


def test_each_training_says_what_became_of_its_model(pipeline: Pipeline, home: Path) -> None:
    instance = dg.DagsterInstance.ephemeral()
    for _ in range(2):
        assert run("training", home, instance).success
    deliver(Zone(home), days(DAYS + 10)[DAYS:])
    pipeline.update(days(DAYS + 10))
    assert run("training", home, instance).success
    first, second, third = materializations(instance, MODEL)

    assert first.metadata["state"].value == "live"
    assert first.metadata["decision"].value == "first model"
    assert first.metadata["training_days"].value == f"{START} to {LABELLED[-1]}"
    # the days of the comparison are left out, and the live version has seen them
    assert second.metadata["training_days"].value == f"{START} to {LABELLED[-8]}"
    assert "no day with known labels" in str(second.metadata["decision"].value)
    assert second.metadata["state"].value == "candidate"
    # ten days later both are measured on the newest seven
    comparison: Any = third.metadata["comparison"].value
    assert comparison["live"] == first.metadata["model_version"].value
    assert comparison["first_day"] == str(LABELLED[-1] + timedelta(days=4))
    assert comparison["last_day"] == str(LABELLED[-1] + timedelta(days=10))
    assert third.metadata["state"].value == ("live" if comparison["better"] else "candidate")
    for plot in ("learning_curve", "loss", "precision_by_recall"):
        assert "data:image/svg+xml" in str(first.metadata[plot].value)
