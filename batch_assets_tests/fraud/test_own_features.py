"""A SQL file beside ours adds columns: built, learned from, scored by, and kept up to date."""

import shutil
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_assets.errors import BatchAssetsError
from batch_assets.fraud import tables
from batch_assets.fraud.keys import STEPS
from batch_assets.fraud.own_features import columns_at, columns_of_day, columns_of_new
from batch_assets.fraud.own_files import OwnFeatureError
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.fraud.register import _check_features, sample_rows
from batch_assets.fraud.scorer import MODEL
from batch_assets.fraud.scoring_inputs import input_files
from batch_assets_tests.fraud.zone import (
    START,
    Zone,
    a_day_of_rows,
    built_days,
    days,
    put_any_model_live,
    rows_of,
)

PACE = """-- How busy a customer is.
-- look_back: 3 days
-- reads: clean_transactions
-- recent: payments of the customer in the 48 hours up to this one
SELECT
    transaction_id,
    count(*) OVER (
        PARTITION BY customer_id ORDER BY happened_at
        RANGE BETWEEN INTERVAL 2 DAYS PRECEDING AND CURRENT ROW
    ) AS recent,
    amount > 50 AS large,
    CASE WHEN amount < 90 THEN amount END AS small_amount,
    day
FROM clean_transactions;
"""
COUNT = 8
LAST = days(COUNT)[-1]


def write(home: Path, name: str, text: str) -> Path:
    path = home / "features" / f"{name}.sql"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with some days, built without any file of one's own, and scored."""
    home = tmp_path_factory.mktemp("filled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BATCH_ASSETS_HOME", str(home))
        zone = Zone(home).describe()
        for day in days(COUNT):
            zone.deliver(day, a_day_of_rows(day))
            if day > START:
                known = a_day_of_rows(day - timedelta(days=1))
                zone.label(day, [(row[0], row[4], 1) for row in known[::4]])
        pipeline = zone.pipeline()
        put_any_model_live(pipeline)
        pipeline.update(days(COUNT))
        pipeline.update(pipeline.stale_days(days(COUNT)))
        yield home


@pytest.fixture
def pipeline(filled: Path, home: Path) -> Pipeline:
    """A copy of it."""
    shutil.copytree(filled, home, dirs_exist_ok=True)
    return Zone(home).pipeline()


def again(pipeline: Pipeline) -> Pipeline:
    """As the next run sees the home."""
    return Zone(pipeline.settings.home).pipeline()


def own_rows(pipeline: Pipeline, name: str) -> list[dict[str, object]]:
    return rows_of(pipeline, pipeline.own[f"features_{name}"].table)


def test_a_file_adds_a_table_and_touches_nothing_else(pipeline: Pipeline, home: Path) -> None:
    before = built_days(pipeline)
    assert pipeline.stale_days(days(COUNT)) == []
    write(home, "pace", PACE)

    pipeline = again(pipeline)
    assert pipeline.stale_days(days(COUNT)) == days(COUNT)
    pipeline.update(days(COUNT))

    assert pipeline.stale_days(days(COUNT)) == []
    assert built_days(pipeline) == before
    clean = {row["transaction_id"]: row for row in rows_of(pipeline, tables.CLEAN_TRANSACTIONS)}
    found = {row["transaction_id"]: row for row in own_rows(pipeline, "pace")}
    assert found.keys() == clean.keys()
    for name, row in found.items():
        this = clean[name]
        recent = [
            other
            for other in clean.values()
            if other["customer_id"] == this["customer_id"]
            and this["happened_at"] - timedelta(days=2) <= other["happened_at"]
            and other["happened_at"] <= this["happened_at"]
        ]
        assert row["pace__recent"] == len(recent)
        assert row["pace__large"] == (this["amount"] > 50)
        small = float(this["amount"]) if this["amount"] < 90 else None
        assert row["pace__small_amount"] == small


def test_a_model_learns_from_it_scores_with_it_and_says_why(pipeline: Pipeline, home: Path) -> None:
    from batch_assets.fraud.drift import ensure_reference
    from batch_assets.fraud.explain import explain
    from batch_assets.fraud.train_model import train_and_save

    write(home, "pace", PACE)
    old = pipeline.models.live(MODEL)
    pipeline = again(pipeline)
    pipeline.update(days(COUNT))
    scored = pipeline.warehouse.snapshot(tables.FRAUD_PREDICTIONS).keys
    version, card = train_and_save(pipeline, days(COUNT), seed=1)
    assert card["features"][-3:] == ["pace__recent", "pace__large", "pace__small_amount"]
    assert pipeline.warehouse.snapshot(tables.FRAUD_PREDICTIONS).keys == scored

    pipeline.models.promote(version, MODEL)
    pipeline = again(pipeline)
    assert pipeline.stale_days(days(COUNT)) == days(COUNT)
    pipeline.update(days(COUNT))
    assert pipeline.stale_days(days(COUNT)) == []
    rows = rows_of(pipeline, tables.FRAUD_PREDICTIONS)
    assert len(rows) == 12 * COUNT
    assert {row["model_version"] for row in rows} == {version}
    assert not list((home / ".chunks").glob("*.parquet"))
    drifted = {row["feature"] for row in rows_of(pipeline, tables.FEATURE_DRIFT)}
    assert {"pace__recent", "amount", "score"} <= drifted
    ensure_reference(pipeline.state(), pipeline.models, home)
    found = explain(pipeline, rows[0]["transaction_id"])
    assert "pace__recent" in found["contributions"]
    assert not found["notes"] or "no known frauds" in found["notes"][0]
    assert old != version
    scores = {row["transaction_id"]: row["score"] for row in rows}
    expected = pipeline.scorer(version).score(
        joined_batches(pipeline, card["features"]), ["transaction_id"]
    )
    for batch in expected:
        for row in batch.select(["transaction_id", "score"]).to_pylist():
            assert scores[row["transaction_id"]] == pytest.approx(row["score"], abs=1e-6)


def joined_batches(pipeline: Pipeline, features: list[str]) -> list[object]:
    from batch_assets.fraud.training_data import labelled_rows

    return labelled_rows(pipeline.state(), days(COUNT), features=features).table.to_batches()


LATE_DAY = days(COUNT)[2]


def test_a_late_row_rebuilds_the_days_that_look_back_on_it_and_no_other(
    pipeline: Pipeline, home: Path
) -> None:
    write(home, "pace", PACE)
    pipeline = again(pipeline)
    pipeline.update(days(COUNT))
    before = own_keys(pipeline, "pace")
    Zone(home).deliver(LAST, [("late", "c1", "s1", "9.00", f"{LATE_DAY}T12:00:00")], "late.csv")
    pipeline.ingest("transactions", [LAST])
    pipeline.update(days(COUNT))
    after = own_keys(pipeline, "pace")
    assert [d for d in days(COUNT) if after[d] != before[d]] == days(4, LATE_DAY)
    assert pipeline.stale_days(days(COUNT)) == []
    late = [row for row in own_rows(pipeline, "pace") if row["transaction_id"] == "late"]
    assert len(late) == 1


def own_keys(pipeline: Pipeline, name: str) -> dict[date, str]:
    return pipeline.warehouse.snapshot(pipeline.own[f"features_{name}"].table).keys


def test_a_comment_changes_nothing_and_a_changed_statement_or_column_all_days(
    pipeline: Pipeline, home: Path
) -> None:
    write(home, "pace", PACE)
    pipeline = again(pipeline)
    pipeline.update(days(COUNT))

    write(home, "pace", PACE.replace("-- How busy", "-- Says how busy"))
    assert again(pipeline).stale_days(days(COUNT)) == []

    write(home, "pace", PACE.replace("amount > 50", "amount > 60"))
    pipeline = again(pipeline)
    assert pipeline.stale_days(days(COUNT)) == days(COUNT)
    pipeline.update(days(3))
    assert pipeline.stale_days(days(COUNT)) == days(COUNT)[3:]

    write(home, "pace", PACE.replace("AS large", "AS above_fifty"))
    pipeline = again(pipeline)
    pipeline.update(days(COUNT))
    assert pipeline.stale_days(days(COUNT)) == []
    columns = {"transaction_id", "pace__recent", "pace__above_fifty", "pace__small_amount", "day"}
    found = own_rows(pipeline, "pace")
    assert {frozenset(row) for row in found} == {frozenset(columns)}
    assert len(found) == 12 * COUNT


def test_a_day_is_the_same_whatever_else_is_built_with_it(pipeline: Pipeline, home: Path) -> None:
    """Though the statement itself has no window that ends: each day sees its own look-back."""
    write(
        home,
        "ever",
        "-- look_back: 2 days\n-- reads: clean_transactions\n"
        "SELECT transaction_id, day, count(*) OVER (ORDER BY happened_at) AS seen "
        "FROM clean_transactions",
    )
    pipeline = again(pipeline)
    pipeline.build(pipeline.own["features_ever"], days(COUNT))
    at_once = own_rows(pipeline, "ever")
    shutil.rmtree(home / "warehouse/features_ever")
    for day in reversed(days(COUNT)):
        pipeline.build(pipeline.own["features_ever"], [day])
    assert own_rows(pipeline, "ever") == at_once
    assert max(row["ever__seen"] for row in at_once) == 36  # type: ignore[type-var]


def test_a_model_whose_file_is_gone_is_refused_by_file_and_column(
    pipeline: Pipeline, home: Path
) -> None:
    path = write(home, "pace", PACE)
    pipeline = again(pipeline)
    pipeline.update(days(COUNT))
    old = pipeline.models.live(MODEL)
    assert old
    version = put_any_model_live(pipeline, 1, features=pipeline.state().feature_names)
    pipeline.update(days(COUNT))
    path.unlink()

    pipeline = again(pipeline)
    with pytest.raises(
        OwnFeatureError, match=r"'recent' of .*pace\.sql, and there is no such file"
    ):
        pipeline.update(days(COUNT))
    path.write_text(PACE.replace("recent", "other"))
    with pytest.raises(OwnFeatureError, match=r"'recent' of .*pace\.sql, and that file gives no"):
        again(pipeline).update(days(COUNT))
    path.write_text("SELECT nothing")
    with pytest.raises(OwnFeatureError, match=r"'recent' of .*cannot be used: .*look_back"):
        again(pipeline).update(days(COUNT))

    path.write_text(PACE)
    again(pipeline).update(days(COUNT))
    path.unlink()
    pipeline.models.promote(old, MODEL)
    pipeline = again(pipeline)
    pipeline.update(days(COUNT))
    assert pipeline.stale_days(days(COUNT)) == []
    assert version != old


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("FROM clean_transactions WHERE amount < 60", "transactions without a row"),
        (
            "FROM clean_transactions JOIN (SELECT unnest([1, 2])) ON amount > 60 OR true",
            "transactions with several rows",
        ),
        (
            "FROM (SELECT * REPLACE (transaction_id || 'x' AS transaction_id) "
            "FROM clean_transactions)",
            "rows of no clean transaction",
        ),
        ("FROM clean_transactions WHERE error('as it is') IS NULL", "as it is"),
    ],
)
def test_a_statement_that_gives_wrong_rows_fails_by_name_and_stops_no_other(
    pipeline: Pipeline, home: Path, wrong: str, said: str
) -> None:
    header = "-- look_back: 0 days\n-- reads: clean_transactions\n"
    write(home, "wrong", f"{header}SELECT transaction_id, day, amount {wrong}")
    write(home, "pace", PACE)
    pipeline = again(pipeline)
    with pytest.raises(OwnFeatureError, match=rf"wrong\.sql: on {START}.*{said}"):
        pipeline.build(pipeline.own["features_wrong"], days(COUNT))
    assert pipeline.warehouse.snapshot(pipeline.own["features_wrong"].table).files == ()
    assert pipeline.build(pipeline.own["features_pace"], days(COUNT)).made == days(COUNT)


def test_what_is_no_finite_number_is_missing(pipeline: Pipeline, home: Path) -> None:
    write(
        home,
        "odd",
        "-- look_back: 0\n-- reads: clean_transactions\n"
        "SELECT transaction_id, day, 'nan'::DOUBLE AS a, 'inf'::FLOAT AS b, 1e300 AS c, NULL::INT "
        "AS d, 2::DECIMAL(5, 2) AS e FROM clean_transactions",
    )
    pipeline = again(pipeline)
    pipeline.build(pipeline.own["features_odd"], [START])
    for row in own_rows(pipeline, "odd"):
        assert [row[f"odd__{name}"] for name in "abcde"] == [None, None, None, None, 2.0]


def test_labels_count_from_the_day_they_are_known_and_totals_until_the_day_before(
    pipeline: Pipeline, home: Path
) -> None:
    write(
        home,
        "known",
        """-- look_back: 7 days
-- reads: clean_transactions, fraud_labels, customer_days
SELECT
    transaction_id,
    day,
    (SELECT count(*) FROM fraud_labels) AS labels,
    (SELECT count(*) FROM fraud_labels WHERE known_on > $day) AS foreseen,
    (SELECT max(day) FROM customer_days) - $day AS newest_total
FROM clean_transactions
WHERE day = $day
""",
    )
    pipeline = again(pipeline)
    pipeline.build(pipeline.own["features_known"], days(COUNT))
    labels = rows_of(pipeline, tables.FRAUD_LABELS)
    for row in own_rows(pipeline, "known"):
        known = [one for one in labels if one["known_on"] <= row["day"]]
        assert row["known__labels"] == len(known)
        assert row["known__foreseen"] == 0
        assert row["known__newest_total"] == (None if row["day"] == START else -1)
    assert any(row["known__labels"] for row in own_rows(pipeline, "known"))


def test_columns_of_new_transactions_are_those_that_they_have_once_stored(
    pipeline: Pipeline, home: Path
) -> None:
    write(home, "pace", PACE)
    pipeline = again(pipeline)
    state, step = pipeline.state(), pipeline.own["features_pace"]
    stored = {r["transaction_id"]: r for r in columns_of_day(state, step, LAST).to_pylist()}
    clean = state.snapshot(tables.CLEAN_TRANSACTIONS)
    with pipeline.warehouse.connect() as connection:
        rows = clean.relation(connection, clean.on([LAST])).to_arrow_table()
    for again_stored in columns_at(state, step, rows).to_pylist():
        assert again_stored == stored[again_stored["transaction_id"]]

    (new,) = rows.slice(5, 1).to_pylist()
    new |= {"transaction_id": "new", "happened_at": new["happened_at"] + timedelta(seconds=1)}
    found = columns_at(state, step, pa.Table.from_pylist([new], rows.schema)).to_pylist()
    before = stored[rows["transaction_id"][5].as_py()]
    assert [row["transaction_id"] for row in found] == ["new"]
    assert found[0]["pace__recent"] == before["pace__recent"] + 1

    few = rows.select(["transaction_id", "customer_id", "happened_at", "amount", "day"])
    turned = few.take(pa.array([3, 0, 11]))
    columns = columns_of_new(state, turned, ["amount", "pace__large", "pace__recent"])
    assert list(columns) == ["pace__large", "pace__recent"]
    for name, values in columns.items():
        wanted = [stored[key][name] for key in turned["transaction_id"].to_pylist()]
        assert values.to_pylist() == wanted
    assert columns_of_new(state, turned, ["amount"]) == {}


def test_the_rows_to_score_are_one_file_in_one_order_so_that_a_killed_run_goes_on(
    pipeline: Pipeline, home: Path, tmp_path: Path
) -> None:
    write(home, "pace", PACE)
    pipeline = again(pipeline)
    pipeline.update(days(COUNT))
    put_any_model_live(pipeline, 1, features=["pace__recent", "amount"])
    first = input_files(pipeline.state(), days(2), tmp_path)
    ((path, rows),) = first[START]
    assert rows == 12
    before = pq.read_table(path)
    assert {"pace__recent", "amount", "transaction_id"} <= set(before.column_names)
    assert input_files(pipeline.state(), days(2), tmp_path) == first
    Path(path).unlink()
    assert input_files(pipeline.state(), days(2), tmp_path) == first
    assert pq.read_table(path).equals(before)

    late = START + timedelta(hours=1)
    Zone(home).deliver(LAST, [("late", "c1", "s1", "9.00", f"{late}T01:00:00")], "late.csv")
    pipeline.ingest("transactions", [LAST])
    for step in (*list(STEPS.values())[:5], *pipeline.own.values()):
        pipeline.build(step, days(2))
    changed = input_files(pipeline.state(), days(2), tmp_path)
    assert changed[START] != first[START]
    assert changed[START][0][1] == 13
    assert len(list(tmp_path.glob(f"{START}-*"))) == 1


def test_a_model_made_elsewhere_is_tried_on_columns_of_ones_own(
    pipeline: Pipeline, home: Path
) -> None:
    write(home, "pace", PACE)
    pipeline = again(pipeline)
    pipeline.update(days(COUNT))
    rows, what = sample_rows(pipeline, ["amount", "pace__recent"])
    assert rows.shape == (12 * COUNT, 2)
    assert rows[:, 1].max() > 1
    assert "rows of" in what
    _check_features(["amount", "pace__recent"], pipeline.state().feature_names)
    with pytest.raises(BatchAssetsError, match=r"'pace__recnt' \(did you mean 'pace__recent'"):
        _check_features(["pace__recnt"], pipeline.state().feature_names)
