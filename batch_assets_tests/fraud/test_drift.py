"""Drift is measured by the population stability index, and the checks name what has drifted."""

import shutil
from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_assets.fraud import tables
from batch_assets.fraud.drift import (
    LEAST_ROWS,
    Reference,
    count_bins,
    measure_drift,
    psi_terms,
)
from batch_assets.fraud.drift_checks import drift_result
from batch_assets.fraud.features import FEATURES
from batch_assets.fraud.monitoring import drift_of_day
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.fraud.scorer import MODEL
from batch_assets_tests.fraud.runs import checks, done_steps, materializations, run
from batch_assets_tests.fraud.zone import (
    START,
    Zone,
    a_day_of_rows,
    built_days,
    days,
    rows_of,
    save_any_model,
)

COUNTS = st.lists(st.integers(0, 5000), min_size=4, max_size=4)
DAYS = 14
TRAINED_FROM, TRAINED_UNTIL = days(DAYS)[7], days(DAYS)[-1]
LATER = START + timedelta(days=DAYS)
ROWS = 700  # a day; as many again of the same weekday are enough to compare


@given(now=COUNTS, then=COUNTS)
def test_the_index_is_that_of_the_formula_and_nought_for_equal_shares(
    now: list[int], then: list[int]
) -> None:
    terms = psi_terms(np.array(now), np.array(then))
    if terms is None:
        assert not sum(now) or not sum(then) or 1 / (1 / sum(now) + 1 / sum(then)) < LEAST_ROWS
        return
    assert (terms >= 0).all()
    doubled = psi_terms(np.array(now), 2 * np.array(now))
    assert doubled is not None
    assert doubled.sum() < 0.01
    if min(*now, *then) > 100:
        p, q = np.array(now) / sum(now), np.array(then) / sum(then)
        assert terms.sum() == pytest.approx(((p - q) * np.log(p / q)).sum(), rel=0.05, abs=1e-3)


def test_chance_alone_does_not_reach_the_warning_with_the_fewest_rows() -> None:
    chance = np.random.default_rng(3)
    trained = np.full(12, 100_000)
    trained[[10, 11]] = 0
    found = [
        psi_terms(np.append(chance.multinomial(LEAST_ROWS + 2, np.full(10, 0.1)), [0, 0]), trained)
        for _ in range(2000)
    ]
    reached = [terms.sum() > 0.1 for terms in found if terms is not None]
    assert len(reached) == 2000
    assert np.mean(reached) < 0.005


@given(
    values=st.lists(st.one_of(st.none(), st.floats(-10, 10, width=32)), max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=3),
)
def test_each_row_is_counted_once_however_the_batches_are_cut(
    values: list[float | None], cuts: list[int]
) -> None:
    rows = pa.record_batch(
        {
            "value": pa.array(values, pa.float64()),
            "day": pa.array(
                [START + timedelta(days=n % 2) for n in range(len(values))], pa.date32()
            ),
        }
    )
    places = sorted({0, len(values), *(cut for cut in cuts if cut < len(values))})
    batches = [rows.slice(a, b - a) for a, b in pairwise(places)]
    edges = np.array([-1.0, 0.5], np.float32)
    counts = count_bins(batches, {"value": edges}, days(2))["value"]
    for day in range(2):
        of_day = values[day::2]
        known = [v for v in of_day if v is not None]
        expected = [
            sum(v <= -1 for v in known),
            sum(-1 < v <= 0.5 for v in known),
            sum(v > 0.5 for v in known),
            len(of_day) - len(known),
        ]
        assert counts[day].tolist() == expected


def test_a_reference_survives_json() -> None:
    reference = Reference(
        {"amount": START},
        {"amount": np.array([0.1, 2.5], np.float32)},
        {"amount": np.arange(28).reshape(7, 4)},
    )
    again = Reference.from_json(reference.as_json())
    assert again.starts == reference.starts
    assert again.edges["amount"].tolist() == reference.edges["amount"].tolist()
    assert again.counts["amount"].tolist() == reference.counts["amount"].tolist()


def reference_of(names: list[str], start: date = date.min) -> Reference:
    """Half of the values were above 0.5."""
    counts = np.zeros((7, 3), np.int64)
    counts[:, :2] = 500
    return Reference(
        dict.fromkeys(names, start),
        dict.fromkeys(names, np.array([0.5], np.float32)),
        dict.fromkeys(names, counts),
    )


def measured(pipeline: Pipeline, reference: Reference) -> dict[str, dict[str, Any]]:
    """Rows by feature of a day whose scores are as in the reference, and a fifth of gaps missing,
    of one customer who was there a day before and a terminal that was not."""
    version = save_any_model(pipeline, note=str(reference.starts))
    pipeline.models.keep_reference(version, MODEL, reference.as_json())
    with pipeline.warehouse.connect() as connection:
        connection.execute(
            "CREATE TABLE transaction_features AS SELECT i AS transaction_id, 'c' AS customer_id, "
            "'t' AS terminal_id, CASE WHEN i % 5 > 0 THEN i % 2 END AS gap, $day AS day "
            "FROM range(1000) AS rows (i)",
            {"day": START},
        )
        connection.execute(
            "CREATE TABLE customer_days AS SELECT 'c' AS customer_id, unnest([$1, $1 - 1]) AS day",
            [START],
        )
        connection.execute(
            "CREATE TABLE terminal_days AS SELECT 't' AS terminal_id, $1 AS day", [START]
        )
        connection.execute(
            "CREATE TABLE fraud_predictions AS SELECT day, transaction_id % 2 AS score, "
            "$version AS model_version FROM transaction_features",
            {"version": version},
        )
        measure_drift(connection, pipeline.models)
        found = connection.table("measured_drift").to_arrow_table().to_pylist()
    return {row["feature"]: row for row in found}


def test_values_that_are_missing_count_as_a_bin_and_are_said_to_be_missing(home: Path) -> None:
    pipeline = Zone(home).describe().pipeline()
    found = measured(pipeline, reference_of(["gap", "score", "gone"]))
    assert set(found) == {"gap", "score"}  # an input that the feature table has no more is left out
    gap = found["gap"]
    assert gap["missing_share"] == 0.2
    assert gap["trained_missing_share"] == 0.0
    assert gap["psi"] > 0.25
    assert gap["moved"] == "20.0% are missing, 0.0% when trained"
    assert found["score"]["psi"] == pytest.approx(0)


def test_new_terminals_are_noticed(home: Path) -> None:
    pipeline = Zone(home).describe().pipeline()
    found = measured(pipeline, reference_of(["new_customer", "new_terminal", "score"]))
    assert found["new_terminal"]["moved"] == "0.0% are at most 0.5, 50.0% when trained"
    assert found["new_customer"]["moved"] == "0.0% are above 0.5, 50.0% when trained"


def test_a_day_before_a_look_back_is_filled_is_not_compared_and_says_so(home: Path) -> None:
    pipeline = Zone(home).describe().pipeline()
    names = ["gap", "score"]
    young = measured(pipeline, reference_of(names, START + timedelta(days=1)))
    assert [young[name]["psi"] for name in names] == [None, None]
    result = drift_result(list(young.values()), START, pipeline.settings)
    assert result.passed
    assert str(result.description).endswith("once there are more): gap, score")
    assert result.metadata["not_compared"].value == "gap, score"
    assert measured(pipeline, reference_of(names, START))["gap"]["psi"] > 0.25


def test_a_reference_that_is_kept_stays(home: Path) -> None:
    models = Zone(home).describe().pipeline().models
    version = save_any_model(Zone(home).pipeline())
    assert (models.reference(version, MODEL), models.reference_key(version, MODEL)) == (None, "")
    models.keep_reference(version, MODEL, {"first": {}})
    key = models.reference_key(version, MODEL)
    models.keep_reference(version, MODEL, {"second": {}})
    assert models.reference(version, MODEL) == {"first": {}}
    assert models.reference_key(version, MODEL) == key


def rows_on(
    day: date, dearer: float = 1, customers: int = 40, who: str = "c"
) -> Iterable[tuple[object, ...]]:
    """Rows whose amounts are spread alike on each day."""
    chance = np.random.default_rng(day.toordinal())
    for n in range(ROWS):
        at = datetime(day.year, day.month, day.day) + timedelta(seconds=120 * n)
        amount = dearer * float(chance.lognormal(3, 1))
        yield f"{day}-{n}", f"{who}{n % customers}", f"s{n % 20}", f"{amount:.2f}", at


def deliver(home: Path) -> Pipeline:
    """Files of two weeks, the last of which the live model was trained on; nothing is built."""
    zone = Zone(home).describe()
    for day in days(DAYS):
        zone.deliver(day, rows_on(day))
    pipeline = zone.pipeline()
    trained = {"first": str(TRAINED_FROM), "last": str(TRAINED_UNTIL), "count": 7}
    pipeline.models.promote(save_any_model(pipeline, training_days=trained), MODEL)
    return pipeline


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The same, all of it built."""
    home = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BATCH_ASSETS_HOME", str(home))
        deliver(home).update(days(DAYS))
        yield home


@pytest.fixture
def pipeline(built: Path, home: Path) -> Pipeline:
    """A copy of it that a test may change."""
    shutil.copytree(built, home, dirs_exist_ok=True)
    return Zone(home).pipeline()


def judged(pipeline: Pipeline, day: date) -> dg.AssetCheckResult:
    """What the checks say of a day that is built now."""
    pipeline.update([day])
    return drift_result(drift_of_day(pipeline, day), day, pipeline.settings)


def drift(pipeline: Pipeline, day: date) -> dict[str, float | None]:
    return {row["feature"]: row["psi"] for row in drift_of_day(pipeline, day)}


def test_training_days_are_compared_with_themselves_and_do_not_differ(pipeline: Pipeline) -> None:
    reference = pipeline.models.reference(pipeline.models.live(MODEL) or "", MODEL)
    assert reference
    assert set(reference) == {*(f.name for f in FEATURES), "new_customer", "new_terminal", "score"}
    assert sum(map(sum, reference["amount"]["counts"])) == 7 * ROWS
    found = drift(pipeline, TRAINED_UNTIL)
    assert set(found) == set(reference)
    # the day is all that the training days have of this weekday
    assert max(psi for psi in found.values() if psi is not None) == pytest.approx(0)


def test_an_amount_that_shifts_is_named_and_stops_nothing(pipeline: Pipeline, home: Path) -> None:
    Zone(home).deliver(LATER, rows_on(LATER, dearer=5))
    instance = dg.DagsterInstance.ephemeral()
    result = run("daily", home, instance, (LATER, LATER))
    assert result.success
    assert {"daily_risk_report", "prediction_quality"} <= done_steps(result)
    (shown,) = materializations(instance, "feature_drift")
    assert float(str(shown.metadata["greatest_psi"].value)) > 0.25
    found = checks(result)["features_are_as_in_training"]
    assert not found.passed
    assert not found.blocking
    assert found.severity == dg.AssetCheckSeverity.ERROR
    drifted = str(found.metadata["drifted"].value).split(", ")
    assert "amount" in drifted
    assert "during_night" not in drifted
    (row,) = [r for r in drift_of_day(pipeline, LATER) if r["feature"] == "amount"]
    assert row["psi"] > 0.25
    assert f"amount {row['psi']:.2f}" in str(found.description)
    assert "when trained" in row["moved"]
    assert row["transactions"] == ROWS
    assert row["missing_share"] == row["trained_missing_share"] == 0


def test_a_day_like_the_training_days_passes(pipeline: Pipeline, home: Path) -> None:
    Zone(home).deliver(LATER, rows_on(LATER))
    pipeline.update([LATER])
    found = drift(pipeline, LATER)
    for name in ("amount", "during_weekend", "during_night"):
        psi = found[name]
        assert psi is not None
        assert psi < 0.1


def test_a_young_home_compares_what_looks_back_on_no_more_days_than_there_were(
    pipeline: Pipeline, home: Path
) -> None:
    Zone(home).deliver(LATER, rows_on(LATER, customers=ROWS, who="stranger"))
    found = judged(pipeline, LATER)
    drifted = str(found.metadata["drifted"].value).split(", ")
    assert {"customer_tx_count_1d", "customer_tx_count_7d"} <= set(drifted)
    assert "during_night" not in drifted
    compared = {name for name, psi in drift(pipeline, LATER).items() if psi is not None}
    assert compared == {f.name for f in FEATURES if f.look_back <= 7}
    assert "new_customer, " in str(found.description)


def test_a_day_with_few_rows_is_not_judged(pipeline: Pipeline, home: Path) -> None:
    Zone(home).deliver(LATER, list(rows_on(LATER, dearer=5))[:50])
    found = judged(pipeline, LATER)
    assert found.passed
    assert found.description
    assert "too few rows" in found.description
    assert set(drift(pipeline, LATER).values()) == {None}


def test_a_model_whose_training_days_nobody_knows_is_not_judged(home: Path) -> None:
    zone = Zone(home).describe()
    zone.deliver(START, rows_on(START))
    pipeline = zone.pipeline()
    pipeline.models.promote(save_any_model(pipeline), MODEL)
    found = judged(pipeline, START)
    assert found.passed
    assert found.metadata["compared"].value == 0
    assert drift(pipeline, START).keys() >= {"amount", "score", "new_customer"}
    assert {row["missing_share"] for row in rows_of(pipeline, tables.FEATURE_DRIFT)} == {0.0}


def test_the_reference_is_made_once_the_training_days_are_there_and_days_before_follow(
    home: Path,
) -> None:
    pipeline = deliver(home)
    pipeline.update(days(3))
    assert set(drift(pipeline, START).values()) == {None}
    assert pipeline.stale_days(days(3)) == []

    pipeline.update(days(DAYS - 3, START + timedelta(days=3)))
    assert START in pipeline.stale_days(days(DAYS))
    pipeline.update(pipeline.stale_days(days(DAYS)))
    assert drift(pipeline, START)["amount"] is not None
    assert pipeline.stale_days(days(DAYS)) == []

    keys = built_days(pipeline)
    pipeline.update(days(DAYS))
    assert built_days(pipeline) == keys


def test_no_feature_reads_further_back_than_it_says(tmp_path: Path) -> None:
    last = START + timedelta(days=40)
    found = {}
    for back in sorted({f.look_back for f in FEATURES} | {40}):
        home = tmp_path / str(back)
        home.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("BATCH_ASSETS_HOME", str(home))
            zone = Zone(home).describe()
            for day in days(back + 1, last - timedelta(days=back)):
                rows = a_day_of_rows(day)
                zone.deliver(day, rows)
                zone.label(day, [(row[0], row[4], int(n % 4 == 0)) for n, row in enumerate(rows)])
            pipeline = zone.pipeline()
            pipeline.update(days(back + 1, last - timedelta(days=back)))
            rows_found = rows_of(pipeline, tables.TRANSACTION_FEATURES)
            found[back] = [row for row in rows_found if row["day"] == last]
    assert len(found) > 3
    for back, of_last in found.items():
        names = [f.name for f in FEATURES if f.look_back <= back]
        for row, whole in zip(of_last, found[40], strict=True):
            assert {n: row[n] for n in names} == pytest.approx({n: whole[n] for n in names})
    counted = "terminal_tx_count_7d"
    assert [r[counted] for r in found[8]] != [r[counted] for r in found[40]]
