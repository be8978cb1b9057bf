"""Each check finds the table it guards made wrong, and what comes after it does not run."""

import shutil
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import lance
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from batch_assets.definitions import defs
from batch_assets.fraud import tables
from batch_assets.fraud.checks import BLOCKING_CHECKS, NEWEST_DAY_CHECKS
from batch_assets.fraud.drift_checks import DRIFT_CHECKS
from batch_assets.fraud.embeddings import EMBEDDINGS
from batch_assets.fraud.keys import days_between
from batch_assets.fraud.pipeline import Pipeline, last_closed_day
from batch_assets.simulate import simulate
from batch_assets.storage.tables import Table
from batch_assets_tests.fraud.runs import checks, done_steps, rewrite, run
from batch_assets_tests.fraud.zone import (
    START,
    Zone,
    a_day_of_rows,
    days,
    put_any_model_live,
    rows_of,
)

BLOCKING = {spec.name for check in BLOCKING_CHECKS for spec in check.check_specs}
NEVER_BLOCKING = {
    "realtime_agrees_with_the_batch",
    *(spec.name for check in DRIFT_CHECKS for spec in check.check_specs),
}
FIRST, LAST = date(2026, 3, 21), date(2026, 4, 2)  # clocks go forward in Europe on 29 March
WRONG_DAY = date(2026, 3, 29)
RANGE = (WRONG_DAY, LAST)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A simulated home, built and never changed: late rows, repeats, a daylight saving day."""
    home = tmp_path_factory.mktemp("simulated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BATCH_ASSETS_HOME", str(home))
        count = (LAST - FIRST).days + 1
        simulate(home, days=count, seed=3, start=FIRST, customers=60, terminals=40)
        pipeline = Zone(home).pipeline()
        put_any_model_live(pipeline)
        pipeline.update(days_between(FIRST, LAST))
        pipeline.update(pipeline.stale_days(days_between(FIRST, LAST)))
        yield home


@pytest.fixture
def built(simulated: Path, home: Path) -> Pipeline:
    """A copy of it that a test may spoil."""
    shutil.copytree(simulated, home, dirs_exist_ok=True)
    return Zone(home).pipeline()


def daily(home: Path) -> dg.ExecuteInProcessResult:
    return run("daily", home, dg.DagsterInstance.ephemeral(), RANGE)


def doubled(rows: pa.Table) -> pa.Table:
    return pa.concat_tables([rows, rows.slice(0, 1)])


def shortened(rows: pa.Table) -> pa.Table:
    return rows.slice(1)


def plus_one(column: str) -> Callable[[pa.Table], pa.Table]:
    def change(rows: pa.Table) -> pa.Table:
        position, kind = rows.schema.get_field_index(column), rows.schema.field(column).type
        return rows.set_column(position, column, pc.cast(pc.add(rows[column], 1), kind))

    return change


def of_another_model(rows: pa.Table) -> pa.Table:
    """The last row is said to be of another version."""
    versions = rows["model_version"].to_pylist()
    at = rows.schema.get_field_index("model_version")
    return rows.set_column(at, "model_version", pa.array([*versions[:-1], "another"]))


def test_all_checks_pass_on_a_home_as_simulated(built: Pipeline, home: Path) -> None:
    assert built.stale_days(days_between(FIRST, LAST)) == []
    result = run("daily", home, dg.DagsterInstance.ephemeral(), (FIRST, LAST))
    assert result.success
    found = checks(result)
    assert set(found) == BLOCKING | NEVER_BLOCKING
    assert {name for name, evaluation in found.items() if not evaluation.passed} == set()
    for name in BLOCKING:
        assert found[name].metadata["days_to_be_built_again"].value == 0


@pytest.mark.parametrize(
    ("table", "change", "check", "not_run"),
    [
        (tables.CLEAN_TRANSACTIONS, doubled, "transaction_keys_are_unique", "fraud_labels_step"),
        (
            tables.CLEAN_TRANSACTIONS,
            shortened,
            "every_record_is_accounted_for",
            "daily_totals_step",
        ),
        (tables.RAW_TRANSACTIONS, shortened, "every_record_is_accounted_for", "daily_totals_step"),
        (
            tables.QUARANTINED_TRANSACTIONS,
            shortened,
            "every_record_is_accounted_for",
            "transaction_features",
        ),
        (tables.FRAUD_PREDICTIONS, shortened, "every_transaction_is_scored", "daily_risk_report"),
        *(
            (
                tables.FRAUD_PREDICTIONS,
                change,
                "scores_and_vectors_are_of_one_pass",
                "daily_risk_report",
            )
            for change in (plus_one("score"), of_another_model)
        ),
        *(
            (
                tables.TRANSACTION_FEATURES,
                plus_one(column),
                "features_do_not_look_ahead",
                "score_transactions",
            )
            for column in (
                "customer_tx_count_1d",
                "customer_amount_mean_7d",
                "customer_amount_mean_30d",
                "terminal_tx_count_30d",
                "terminal_fraud_share_1d",
            )
        ),
    ],
)
def test_a_table_made_wrong_is_found_and_stops_what_comes_after(
    built: Pipeline,
    home: Path,
    table: Table,
    change: Callable[[pa.Table], pa.Table],
    check: str,
    not_run: str,
) -> None:
    rewrite(built, table, day_with_rows(built, table), change)
    result = daily(home)
    found = checks(result)
    assert not result.success
    assert not found[check].passed
    assert found[check].blocking
    assert found[check].metadata["wrong"].value
    assert not_run not in done_steps(result)


def day_with_rows(pipeline: Pipeline, table: Table) -> date:
    snapshot = pipeline.warehouse.snapshot(table)
    return next(day for day in days_between(*RANGE) if snapshot.rows([day]))


def test_a_feature_that_counts_a_label_before_it_was_known_is_found(
    built: Pipeline, home: Path
) -> None:
    with built.warehouse.connect() as connection:
        snapshot = built.warehouse.snapshot(tables.TERMINAL_FRAUDS)
        snapshot.register(connection)
        known = connection.sql("SELECT terminal_id FROM terminal_frauds").fetchall()
    terminals = {row[0] for row in known}
    assert terminals

    def foreseen(rows: pa.Table) -> pa.Table:
        share = [float(t in terminals) for t in rows["terminal_id"].to_pylist()]
        position = rows.schema.get_field_index("terminal_fraud_share_7d")
        assert sum(share)
        return rows.set_column(position, "terminal_fraud_share_7d", pa.array(share))

    rewrite(built, tables.TRANSACTION_FEATURES, WRONG_DAY, foreseen)
    result = daily(home)
    assert not checks(result)["features_do_not_look_ahead"].passed
    assert "score_transactions" not in done_steps(result)


def test_vectors_that_are_gone_are_found(built: Pipeline, home: Path) -> None:
    vectors = lance.dataset(built.vectors.table_uri(EMBEDDINGS))
    vectors.delete(f"day = date '{WRONG_DAY}'")
    result = run("daily", home, dg.DagsterInstance.ephemeral(), (LAST, LAST))
    assert result.success  # the day is not of this run, and a run that holds it builds it again
    assert run("daily", home, dg.DagsterInstance.ephemeral(), RANGE).success
    assert built.stale_days([WRONG_DAY]) == []


def test_a_vector_that_stands_twice_is_found(built: Pipeline, home: Path) -> None:
    uri = built.vectors.table_uri(EMBEDDINGS)
    lance.write_dataset(lance.dataset(uri).to_table(limit=1), uri, mode="append")
    result = daily(home)
    assert not checks(result)["vector_keys_are_unique"].passed
    assert not result.success


def test_a_day_that_changed_meanwhile_is_not_held_against_the_tables(
    built: Pipeline, home: Path
) -> None:
    """As when another run brings late rows while this one is between building and checking."""
    raw = built.warehouse.snapshot(tables.RAW_TRANSACTIONS)
    held = [f for f in raw.files if f.partition["happened_on"] == WRONG_DAY]
    built.warehouse.commit(raw, [], held[:1], [held[0].day])
    selection = dg.AssetSelection.checks(*BLOCKING_CHECKS)
    job = dg.define_asset_job("checks", selection).resolve(asset_graph=defs.resolve_asset_graph())
    found = checks(run(job, home, dg.DagsterInstance.ephemeral()))
    assert found["every_record_is_accounted_for"].passed
    assert found["every_record_is_accounted_for"].metadata["days_to_be_built_again"].value == 1


def test_a_correction_that_moves_a_transaction_to_another_day_is_no_duplicate(home: Path) -> None:
    zone = Zone(home).describe(corrections="replace")
    zone.deliver(START, a_day_of_rows(START))
    pipeline = zone.pipeline()
    put_any_model_live(pipeline)
    pipeline.update([START])
    moved_to = START + timedelta(days=1)
    (first, *_) = a_day_of_rows(START)
    zone.deliver(moved_to, [(*first[:4], f"{moved_to}T08:00:00")])

    result = run("daily", home, dg.DagsterInstance.ephemeral(), (moved_to, moved_to))

    assert result.success
    pipeline.update(pipeline.stale_days(days(2)))
    found = [
        r["day"]
        for r in rows_of(pipeline, tables.CLEAN_TRANSACTIONS)
        if r["transaction_id"] == first[0]
    ]
    assert found == [moved_to]


def test_the_newest_closed_day_is_missed_with_a_warning_that_stops_nothing(
    built: Pipeline, home: Path
) -> None:
    result = run("freshness", home, dg.DagsterInstance.ephemeral())
    found = result.get_asset_check_evaluations()
    assert result.success
    assert len(found) == len(NEWEST_DAY_CHECKS)
    assert {e.severity for e in found} == {dg.AssetCheckSeverity.WARN}
    assert not any(e.passed or e.blocking for e in found)


def test_the_newest_closed_day_counts_and_an_older_one_built_today_does_not(home: Path) -> None:
    yesterday = last_closed_day()
    (home / "settings.toml").write_text(f"start_date = {yesterday - timedelta(days=3)}\n")
    zone = Zone(home)
    (home / "feeds.yaml").write_text((Zone(home).describe().home / "feeds.yaml").read_text())
    (home / "settings.toml").write_text(f"start_date = {yesterday - timedelta(days=3)}\n")
    zone.deliver(yesterday, a_day_of_rows(yesterday))
    zone.deliver(yesterday - timedelta(days=1), a_day_of_rows(yesterday - timedelta(days=1)))
    pipeline = zone.pipeline()
    put_any_model_live(pipeline)

    def passed() -> set[bool]:
        result = run("freshness", home, dg.DagsterInstance.ephemeral())
        return {e.passed for e in result.get_asset_check_evaluations()}

    pipeline.update([yesterday - timedelta(days=1)])
    assert passed() == {False}
    pipeline.update([yesterday])
    assert passed() == {True}
