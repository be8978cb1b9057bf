"""What runs record: each day once, with what a person wants to see, whatever stopped the run."""

import base64
import os
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from batch_assets.fraud import tables
from batch_assets.fraud.embeddings import EMBEDDINGS
from batch_assets.fraud.keys import STEPS
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.instance import dagster_instance
from batch_assets_tests.fraud.runs import (
    done_steps,
    materializations,
    once,
    run,
    times_recorded,
)
from batch_assets_tests.fraud.zone import START, Zone, a_day_of_rows, days, put_any_model_live

DAYS = 12
ALL = (days(DAYS)[0], days(DAYS)[-1])
SCORED = ("fraud_predictions", "transaction_embeddings")


@pytest.fixture
def zone(home: Path) -> Zone:
    zone = Zone(home).describe()
    for day in days(DAYS):
        zone.deliver(day, a_day_of_rows(day))
    return zone


@pytest.fixture
def pipeline(zone: Zone) -> Pipeline:
    pipeline = zone.pipeline()
    put_any_model_live(pipeline)
    return pipeline


@pytest.fixture
def instance() -> dg.DagsterInstance:
    return dg.DagsterInstance.ephemeral()


def test_a_range_in_one_run_records_each_day_of_each_asset_once_with_its_rows(
    pipeline: Pipeline, home: Path, instance: dg.DagsterInstance
) -> None:
    result = run("daily", home, instance, ALL)
    assert result.success
    for table in (t for step in STEPS.values() for t in step.tables):
        assert times_recorded(instance, table.name, result.run_id) == once(days(DAYS))
        snapshot = pipeline.warehouse.snapshot(table)
        for record in materializations(instance, table.name):
            day = date.fromisoformat(record.partition or "")
            assert record.metadata["dagster/partition_row_count"].value == snapshot.rows([day])
            assert record.metadata["made_from"].value == snapshot.keys[day]
            assert record.metadata["rebuilt"].value is True
    held = pipeline.vectors.days(EMBEDDINGS)
    for record in materializations(instance, EMBEDDINGS.name):
        day = date.fromisoformat(record.partition or "")
        assert record.metadata["dagster/partition_row_count"].value == held[day].rows


@pytest.mark.parametrize(
    ("asset", "plot"), [("clean_transactions", "amounts"), ("fraud_predictions", "scores")]
)
def test_each_day_of_a_range_has_a_plot(
    pipeline: Pipeline, home: Path, instance: dg.DagsterInstance, asset: str, plot: str
) -> None:
    run("daily", home, instance, ALL)
    drawn = [record.metadata[plot].value for record in materializations(instance, asset)]
    assert len(drawn) == DAYS
    for markdown in drawn:
        before, _, data = str(markdown).partition("base64,")
        assert before.endswith("(data:image/svg+xml;")
        assert base64.b64decode(data.rstrip(")")).startswith(b"<svg ")


def test_each_day_shows_its_files_and_its_riskiest_customers(
    pipeline: Pipeline, home: Path, instance: dg.DagsterInstance
) -> None:
    run("daily", home, instance, ALL)
    for record in materializations(instance, "raw_transactions"):
        (file,) = record.metadata["files_seen"].records  # type: ignore[attr-defined]
        assert file.data["file"] == f"shop/{record.partition}/a.csv"
        assert file.data["records"] == 12
    for record in materializations(instance, "daily_risk_report"):
        assert record.metadata["riskiest_customers"].records  # type: ignore[attr-defined]


def test_scores_say_which_model_and_which_device_made_them(
    pipeline: Pipeline, home: Path, instance: dg.DagsterInstance
) -> None:
    import torch

    run("daily", home, instance, (START, START))
    (record,) = materializations(instance, "fraud_predictions")
    assert record.metadata["model_version"].value == pipeline.models.live("fraud_model")
    wanted = "cuda:0" if torch.cuda.is_available() else "no GPU found: the CPU"
    assert wanted in str(record.metadata["device"].value)


def test_a_second_run_records_the_days_and_says_that_nothing_was_built(
    pipeline: Pipeline, home: Path, instance: dg.DagsterInstance
) -> None:
    run("daily", home, instance, ALL)
    again = run("daily", home, instance, ALL)
    found = list(materializations(instance, "fraud_predictions", again.run_id))
    assert len(found) == DAYS
    assert not any(record.metadata["rebuilt"].value for record in found)


def test_a_day_that_fails_keeps_the_days_before_it_each_recorded_once_and_repaired_it_goes_on(
    pipeline: Pipeline, home: Path, instance: dg.DagsterInstance
) -> None:
    ingested = run("ingest", home, instance, ALL)
    assert ingested.success
    raw = pipeline.warehouse.snapshot(tables.RAW_TRANSACTIONS)
    (file,) = raw.by_day[days(DAYS)[8]]
    path = Path(raw.root, file.path)
    whole = path.read_bytes()
    path.write_bytes(b"no parquet at all")

    failed = run("daily", home, instance, ALL)
    assert not failed.success
    for table in STEPS["clean_transactions"].tables:
        assert times_recorded(instance, table.name, failed.run_id) == once(days(8))
        assert sorted(pipeline.warehouse.snapshot(table).by_day) == days(8)
    for record in materializations(instance, "clean_transactions", failed.run_id):
        assert record.metadata["dagster/partition_row_count"].value == 12
    assert times_recorded(instance, "fraud_labels", failed.run_id) == {}

    path.write_bytes(whole)
    repaired = run("daily", home, instance, ALL)
    assert repaired.success
    assert times_recorded(instance, "clean_transactions", repaired.run_id) == once(days(DAYS))
    rebuilt = {
        record.partition: record.metadata["rebuilt"].value
        for record in materializations(instance, "clean_transactions", repaired.run_id)
    }
    assert rebuilt == {str(day): n >= 8 for n, day in enumerate(days(DAYS))}


def test_without_a_model_scoring_says_what_to_do_and_everything_before_it_stays(
    zone: Zone, home: Path, instance: dg.DagsterInstance
) -> None:
    result = run("daily", home, instance, ALL)
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert failure.step_key == "score_transactions"
    error = failure.step_failure_data.error
    assert error is not None
    assert error.cause is not None
    assert "materialize fraud_model" in error.cause.message
    assert "transaction_features" in done_steps(result)
    assert times_recorded(instance, "transaction_features", result.run_id) == once(days(DAYS))
    assert sorted(zone.pipeline().warehouse.snapshot(tables.TRANSACTION_FEATURES).by_day) == days(
        DAYS
    )


def stopped_by(home: Path, number: signal.Signals) -> subprocess.CompletedProcess[str]:
    """``batch-assets run`` in its own process, which gets a signal after its fourth scored day."""
    program = (
        "import os, sys\n"
        "from batch_assets import cli, progress\n"
        "from batch_assets.fraud import pipeline\n"
        "pipeline.ROWS_AT_ONCE = 1  # so that each day is published by itself\n"
        "scored = []\n"
        "class Watcher:\n"
        "    def advance(self, what, day):\n"
        "        scored.extend([day] * (what == 'fraud_predictions'))\n"
        f"        if len(scored) == 4: os.kill(os.getpid(), {int(number)})\n"
        "    def advance_to(self, what, done, of): pass\n"
        f"sys.argv = ['batch-assets', 'run', '--from', '{ALL[0]}', '--to', '{ALL[1]}']\n"
        "with progress.watched_by(Watcher()): cli.main()\n"
    )
    environment = os.environ | {"BATCH_ASSETS_HOME": str(home)}
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )


def finish(home: Path) -> None:
    command = ["run", "--from", str(ALL[0]), "--to", str(ALL[1])]
    program = f"import sys; sys.argv[1:] = {command}; from batch_assets import cli; cli.main()"
    environment = os.environ | {"BATCH_ASSETS_HOME": str(home)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)


def test_a_terminated_run_records_what_it_committed_and_the_next_one_finishes(
    pipeline: Pipeline, home: Path
) -> None:
    stopped = stopped_by(home, signal.SIGTERM)
    assert stopped.returncode == 130
    assert "the next run goes on from there" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    with dagster_instance() as instance:
        (record,) = instance.get_run_records()
        first = record.dagster_run
        assert first.status == dg.DagsterRunStatus.FAILURE
        committed = sorted(pipeline.warehouse.snapshot(tables.FRAUD_PREDICTIONS).by_day)
        assert committed == days(4)
        for asset in SCORED:
            assert times_recorded(instance, asset, first.run_id) == once(committed)
    finish(home)
    assert pipeline.stale_days(days(DAYS)) == []


def test_a_killed_run_blocks_nobody_and_the_next_one_finds_its_days_and_records_them(
    pipeline: Pipeline, home: Path
) -> None:
    assert stopped_by(home, signal.SIGKILL).returncode == -signal.SIGKILL
    committed = sorted(pipeline.warehouse.snapshot(tables.FRAUD_PREDICTIONS).by_day)
    assert committed == days(4)
    finish(home)
    with dagster_instance() as instance:
        finished, killed = instance.get_runs()
        assert killed.status == dg.DagsterRunStatus.FAILURE
        assert finished.status == dg.DagsterRunStatus.SUCCESS
        assert times_recorded(instance, "transaction_features", killed.run_id) == once(days(DAYS))
        for asset in SCORED:
            assert times_recorded(instance, asset, killed.run_id) == {}
            assert times_recorded(instance, asset, finished.run_id) == once(days(DAYS))
        rebuilt = {
            record.partition: record.metadata["rebuilt"].value
            for record in materializations(instance, "fraud_predictions", finished.run_id)
        }
        assert rebuilt == {str(day): n >= 4 for n, day in enumerate(days(DAYS))}
        pool = instance.event_log_storage.get_concurrency_info("gpu")
        assert (pool.slot_count, pool.active_slot_count) == (1, 0)


def test_a_run_that_goes_on_is_not_taken_for_dead(pipeline: Pipeline, home: Path) -> None:
    from batch_assets.definitions import defs
    from batch_assets.running import bury_dead_runs, this_process_runs

    with dagster_instance() as instance:
        started = instance.create_run_for_job(
            defs.resolve_job_def("daily"), status=dg.DagsterRunStatus.STARTED
        )
        this_process_runs(started.run_id)
        assert bury_dead_runs(instance) == []
        program = (
            "from batch_assets.instance import dagster_instance\n"
            "from batch_assets.running import bury_dead_runs\n"
            "with dagster_instance() as instance: print(bury_dead_runs(instance))"
        )
        other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert other.stdout.strip() == "[]"
        found = instance.get_run_by_id(started.run_id)
        assert found is not None
        assert found.status == dg.DagsterRunStatus.STARTED
