"""Each day is measured once its labels are known, as scikit-learn and the handbook measure."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from batch_assets.fraud import tables
from batch_assets.fraud.evaluation import (
    card_precision_at_k,
    card_precision_ceiling,
    select_test_days,
)
from batch_assets.fraud.monitoring import quality_and_drift
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.fraud.prediction_quality import show_quality
from batch_assets.fraud.scorer import MODEL
from batch_assets.fraud.sql import sql_text
from batch_assets_tests.fraud.runs import materializations, run
from batch_assets_tests.fraud.zone import (
    START,
    Zone,
    a_day_of_rows,
    built_days,
    days,
    put_any_model_live,
    rows_of,
    save_any_model,
)

DAY = date(2026, 3, 20)
DELAY = timedelta(days=7)
# few scores, so that many tie; a label that is None was never delivered
ROWS = st.lists(
    st.tuples(
        st.sampled_from([f"c{n}" for n in range(150)]),
        st.sampled_from([0.0, 0.1, 0.25, 0.9, 1.0]),
        st.sampled_from([True, False, None]),
        st.integers(1, 500),
    ),
    min_size=1,
    max_size=30,
)
EARLIER_FRAUDS = st.lists(
    st.tuples(st.sampled_from([f"c{n}" for n in range(150)]), st.integers(1, 40)), max_size=8
)
Row = dict[str, Any]


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, earlier=EARLIER_FRAUDS)
def test_measures_are_those_of_scikit_learn_and_of_the_handbook(
    rows: list[tuple[str, float, bool | None, int]], earlier: list[tuple[str, int]]
) -> None:
    (found,) = measured(rows, earlier)
    kept = kept_by_the_handbook(rows, earlier)
    assert found["transactions"] == len(rows)
    assert found["labels"] == sum(label is not None for _, _, label, _ in rows)
    assert found["left_out"] == len(rows) - len(kept)
    if not len(kept):
        assert found["auc"] is found["brier_score"] is found["frauds"] is None
        return
    truth, scores = np.array(kept["is_fraud"]), np.array(kept["score"], np.float64)
    amounts = np.array(kept["amount"])
    assert found["frauds"] == truth.sum()
    assert found["brier_score"] == pytest.approx(np.mean((scores - truth) ** 2))
    assert found["mean_score"] == pytest.approx(scores.mean())
    assert found["fraud_share"] == pytest.approx(truth.mean())
    assert found["calibration_error"] == pytest.approx(calibration_error(scores, truth))
    assert found["card_precision_at_100"] == card_precision_at_k(kept)
    assert found["card_precision_at_100_ceiling"] == card_precision_ceiling(kept)
    assert float(found["fraud_amount"]) == amounts[truth].sum()
    assert found["fraud_value_caught"] == (1.0 if truth.any() else None)  # no day has 100 cards
    if truth.all() or not truth.any():
        assert found["auc"] is None
    else:
        assert found["auc"] == pytest.approx(roc_auc_score(truth, scores))
        assert found["brier_score"] == pytest.approx(brier_score_loss(truth, scores))
        assert found["average_precision"] == pytest.approx(average_precision_score(truth, scores))
    assert (found["average_precision"] is None) == (not truth.any())


def test_beyond_the_first_hundred_cards_a_fraud_is_not_caught() -> None:
    rows: list[tuple[str, float, bool | None, int]]
    rows = [(f"c{n:03}", 1 - n / 1000, n in (5, 99, 100), 10 + n) for n in range(150)]
    (found,) = measured(rows, [])
    assert found["card_precision_at_100"] == 0.02
    assert found["card_precision_at_100_ceiling"] == 0.03
    assert found["fraud_value_caught"] == pytest.approx((15 + 109) / (15 + 109 + 110))


def calibration_error(scores: np.ndarray, truth: np.ndarray) -> float:
    bins = np.minimum((scores * 10).astype(int), 9)
    inside = [bins == number for number in np.unique(bins)]
    return float(sum(i.mean() * abs(scores[i].mean() - truth[i].mean()) for i in inside))


def kept_by_the_handbook(
    rows: list[tuple[str, float, bool | None, int]], earlier: list[tuple[str, int]]
) -> pa.Table:
    """Without customers with a fraud of the 30 days before whose label was known by then."""
    scored = pa.table(
        {
            "day": pa.array([DAY] * len(rows), pa.date32()),
            "customer_id": [customer for customer, *_ in rows],
            "is_fraud": [label is True for _, _, label, _ in rows],
            "score": pa.array([score for _, score, _, _ in rows], pa.float32()),
            "amount": [amount for *_, amount in rows],
        }
    )
    frauds = pa.table(
        {
            "day": pa.array([DAY - timedelta(days=ago) for _, ago in earlier], pa.date32()),
            "customer_id": pa.array([customer for customer, _ in earlier], pa.string()),
        }
    )
    first = DAY - timedelta(days=30)
    last = DAY - DELAY - timedelta(days=1)
    return select_test_days(
        scored,
        frauds,
        train_first=first,
        train_last=last,
        delay_days=DELAY.days,
        test_first=DAY,
        test_last=DAY,
    )


def measured(
    rows: list[tuple[str, float, bool | None, int]], earlier: list[tuple[str, int]]
) -> list[Row]:
    ids = [str(n) for n in range(len(rows))]
    before = [(f"e{n}", who, DAY - timedelta(days=ago)) for n, (who, ago) in enumerate(earlier)]
    labelled = [(i, r[2], DAY) for i, r in zip(ids, rows, strict=True) if r[2] is not None]
    labelled += [(i, True, day) for i, _, day in before]
    everybody = [(i, r[0], DAY) for i, r in zip(ids, rows, strict=True)] + before
    predictions = pa.table(
        {
            "transaction_id": ids,
            "customer_id": [r[0] for r in rows],
            "score": pa.array([r[1] for r in rows], pa.float32()),
            "amount": pa.array([r[3] for r in rows], pa.float64()),
            "model_version": ["v"] * len(rows),
            "day": pa.array([DAY] * len(rows), pa.date32()),
        }
    )
    labels = pa.table(
        {
            "transaction_id": pa.array([i for i, _, _ in labelled], pa.string()),
            "is_fraud": pa.array([label for _, label, _ in labelled], pa.bool_()),
            "known_on": pa.array([day + DELAY for *_, day in labelled], pa.date32()),
            "day": pa.array([day for *_, day in labelled], pa.date32()),
        }
    )
    clean = pa.table(
        {
            "transaction_id": [i for i, _, _ in everybody],
            "customer_id": [who for _, who, _ in everybody],
            "day": pa.array([day for *_, day in everybody], pa.date32()),
        }
    )
    with duckdb.connect() as connection:
        connection.register("fraud_predictions", predictions)
        connection.register("fraud_labels", labels)
        connection.register("clean_transactions", clean)
        found = connection.sql(
            sql_text("prediction_quality"), params={"labels_known_until": DAY}
        ).to_arrow_table()
    return found.to_pylist()


@pytest.fixture
def zone(home: Path) -> Zone:
    return Zone(home).describe()


def filled(zone: Zone, count: int) -> Pipeline:
    for day in days(count):
        zone.deliver(day, a_day_of_rows(day))
    pipeline = zone.pipeline()
    put_any_model_live(pipeline)
    return pipeline


def label(zone: Zone, day: date, every: int = 4) -> date:
    """Report frauds of a day when they are due; returns when that is."""
    zone.label(day + DELAY, [(row[0], row[4], 1) for row in a_day_of_rows(day)[::every]])
    return day + DELAY


def by_day(pipeline: Pipeline) -> dict[date, Row]:
    return {row["day"]: row for row in rows_of(pipeline, tables.PREDICTION_QUALITY)}


def test_a_day_is_measured_when_its_labels_have_arrived_and_then_left_alone(zone: Zone) -> None:
    pipeline = filled(zone, 9)
    pipeline.update(days(9))
    waiting = by_day(pipeline)
    assert sorted(waiting) == days(9)
    assert {row["measured"] for row in waiting.values()} == {False}
    assert waiting[START]["transactions"] == 12
    assert waiting[START]["frauds"] is waiting[START]["auc"] is None

    pipeline.update([label(zone, START)])
    pipeline.update(pipeline.stale_days(days(9)))

    found = by_day(pipeline)
    assert [day for day, row in sorted(found.items()) if row["measured"]] == [START]
    assert (found[START]["frauds"], found[START]["labels"]) == (3, 3)
    assert found[START]["auc"] is not None
    assert pipeline.stale_days(days(9)) == []
    keys = built_days(pipeline)
    pipeline.update(days(9))
    assert built_days(pipeline) == keys


def test_labels_that_come_after_the_day_was_measured_measure_it_again(zone: Zone) -> None:
    pipeline = filled(zone, 12)
    for day in days(5):
        label(zone, day)
    pipeline.update(days(12))
    assert by_day(pipeline)[START]["frauds"] == 3
    arrival = START + timedelta(days=11)
    zone.label(arrival, [(row[0], row[4], 1) for row in a_day_of_rows(START)], "late.csv")
    pipeline.update([arrival])
    pipeline.update(pipeline.stale_days(days(12)))
    found = by_day(pipeline)[START]
    assert found["frauds"] == 12
    assert found["auc"] is None  # nothing but frauds
    assert pipeline.stale_days(days(12)) == []


def test_where_labels_come_with_the_rows_files_of_later_days_say_that_time_has_passed(
    zone: Zone, home: Path
) -> None:
    text = (home / "feeds.yaml").read_text().split("  reports:")[0]
    text = text.replace("currency: ccy}", "currency: ccy, label: fraud}")
    (home / "feeds.yaml").write_text(text)
    for day in days(10):
        rows = "".join(
            f"{i},{who},{where},{amount},{at},EUR,{int(n % 4 == 0)}\n"
            for n, (i, who, where, amount, at) in enumerate(a_day_of_rows(day))
        )
        zone.write(f"shop/{day}/a.csv", f"id,who,where,amount,at,ccy,fraud\n{rows}")
    pipeline = zone.pipeline()
    put_any_model_live(pipeline)
    pipeline.update(days(7))
    for day in days(10)[7:]:
        pipeline.update([day])  # which needs no second look at the days that it makes measurable
        assert pipeline.stale_days(days((day - START).days + 1)) == []
    found = by_day(pipeline)
    assert [day for day, row in sorted(found.items()) if row["measured"]] == days(3)
    assert found[START]["frauds"] == 3
    known = {row[1] for row in a_day_of_rows(START)[::4]}
    later = [row for row in a_day_of_rows(START + timedelta(days=2)) if row[1] in known]
    assert found[START + timedelta(days=2)]["left_out"] == 0  # START's labels came on day 7
    assert later


def test_customers_whose_fraud_was_known_before_are_left_out(zone: Zone) -> None:
    pipeline = filled(zone, 16)
    for day in days(9):
        label(zone, day)
    pipeline.update(days(16))
    (known,) = {row[1] for row in a_day_of_rows(START)[:1]}
    frauds = {row[1] for row in a_day_of_rows(START)[::4]}
    assert known in frauds
    day = START + DELAY + timedelta(days=1)
    rows = a_day_of_rows(day)
    left_out = [row for row in rows if row[1] in frauds]
    found = by_day(pipeline)[day]
    assert found["measured"]
    assert found["left_out"] == len(left_out) > 0
    assert found["frauds"] == sum(row[1] not in frauds for row in rows[::4])


def test_a_run_of_one_day_records_the_days_that_it_makes_measurable(zone: Zone, home: Path) -> None:
    pipeline = filled(zone, 9)
    for day in days(2):
        label(zone, day, every=100)
    pipeline.update(days(8))
    pipeline.update(pipeline.stale_days(days(8)))
    instance = dg.DagsterInstance.ephemeral()
    last = days(9)[-1]
    result = run("daily", home, instance, (last, last))
    assert result.success
    while stale := pipeline.stale_days(days(9)):  # the labels that came with it
        assert run("daily", home, instance, (stale[0], stale[-1])).success
    found = by_day(pipeline)
    assert [day for day, row in sorted(found.items()) if row["measured"]] == days(2)
    told = {m.partition: m.metadata for m in materializations(instance, "prediction_quality")}
    shown = told[str(days(2)[1])]
    assert shown["frauds"].value == 1
    assert shown["labels"].value == 1
    assert shown["model_trained_on_it"].value is False
    for plot in ("average_precision_by_day", "card_precision_at_100_by_day"):
        assert "svg" in str(shown[plot].value)
    waiting = told[str(last)]
    assert waiting["measured"].value is False
    assert waiting["labels_expected_on"].value == str(last + DELAY)


def test_a_day_that_the_model_was_trained_on_is_said_to_be_one(zone: Zone) -> None:
    pipeline = filled(zone, 9)
    for day in days(2):
        label(zone, day)
    learned = {"first": str(START), "last": str(START), "count": 1}
    pipeline.models.promote(save_any_model(pipeline, training_days=learned), MODEL)
    pipeline.update(days(9))
    pipeline.update(pipeline.stale_days(days(9)))
    shown = show_quality(pipeline, days(2))
    assert [shown(day)["model_trained_on_it"] for day in days(2)] == [True, False]
    assert "training days too" in shown(START)["average_precision_by_day"].value


def test_the_command_shows_the_days_asked_for(zone: Zone) -> None:
    pipeline = filled(zone, 9)
    label(zone, START)
    pipeline.update(days(9))
    found = quality_and_drift(pipeline, START, START + timedelta(days=3))
    assert [row["day"] for row in found["quality"]] == days(4)
    assert {row["day"] for row in found["drift"]} == {START + timedelta(days=3)}
    assert len(quality_and_drift(pipeline)["quality"]) == 9
