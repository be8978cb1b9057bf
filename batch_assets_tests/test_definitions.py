"""What Dagster loads says of each asset what it is, who owns it, and what it is made of."""

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from batch_assets.definitions import defs
from batch_assets.engines.gpu import GPU_POOL
from batch_assets.fraud.checks import BLOCKING_CHECKS
from batch_assets.fraud.tables import TABLES
from batch_assets.partitions import DAILY

SPECS = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
GRAPH = defs.resolve_asset_graph()
WITHOUT_UPSTREAM = {"raw_transactions", "raw_fraud_labels", "raw_exchange_rates"}
INTERNAL = {"ingested_files", "repeated_keys"}


def columns_of(asset: str) -> set[str]:
    return {column.name for column in SPECS[asset].metadata["dagster/column_schema"].columns}


def test_the_definitions_load_whole() -> None:
    dg.Definitions.validate_loadable(defs)


def test_they_load_without_warnings_and_without_what_is_slow_to_import() -> None:
    program = (
        "import sys, warnings; warnings.simplefilter('error', FutureWarning)\n"
        "import dagster\n"
        "warnings.simplefilter('error')\n"
        "import batch_assets.definitions\n"
        "print(*({'torch', 'lancedb', 'lance', 'sklearn', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


def test_every_table_is_an_asset_but_for_the_two_that_ingestion_keeps_for_itself() -> None:
    assert {table.name for table in TABLES} - set(SPECS) == INTERNAL
    assert set(SPECS) - {table.name for table in TABLES} == {
        "fraud_model",
        "transaction_embeddings",
    }


@pytest.mark.parametrize("name", sorted(SPECS))
def test_each_asset_is_described(name: str) -> None:
    spec = SPECS[name]
    assert spec.description
    assert spec.group_name not in (None, "default")
    assert spec.owners
    assert spec.kinds
    assert spec.code_version
    assert spec.freshness_policy
    assert spec.metadata["dagster/column_schema"].columns


@pytest.mark.parametrize("name", sorted(set(SPECS) - WITHOUT_UPSTREAM))
def test_each_column_names_the_columns_it_is_made_of(name: str) -> None:
    lineage = SPECS[name].metadata["dagster/column_lineage"].deps_by_column
    assert set(lineage) == columns_of(name)
    sources = {
        (dep.asset_key.to_user_string(), dep.column_name) for d in lineage.values() for dep in d
    }
    assert {column for asset, column in sources if column not in columns_of(asset)} == set()
    assert {asset for asset, _ in sources} <= {
        d.asset_key.to_user_string() for d in SPECS[name].deps
    }


def test_all_but_the_model_are_partitioned_by_day_and_filled_by_one_run() -> None:
    for name in set(SPECS) - {"fraud_model"}:
        node = GRAPH.get(dg.AssetKey(name))
        assert node.partitions_def == DAILY
        assert node.backfill_policy == dg.BackfillPolicy.single_run()
    assert SPECS["fraud_model"].partitions_def is None


def test_the_day_that_is_still_running_has_a_partition() -> None:
    now = datetime(2026, 3, 5, 12, tzinfo=UTC)
    keys = DAILY.get_partition_keys(current_time=now)
    assert (keys[0], keys[-1]) == ("2026-01-01", "2026-03-05")
    assert date.fromisoformat(keys[-1]) - date.fromisoformat(keys[-2]) == timedelta(days=1)


def test_training_and_scoring_share_the_gpu_pool() -> None:
    pools = {
        node.name: node.pools
        for asset in defs.assets or ()
        if isinstance(asset, dg.AssetsDefinition)
        for node in [asset.op]
    }
    assert {name for name, used in pools.items() if GPU_POOL in used} == {
        "fraud_model",
        "score_transactions",
    }


def test_the_checks_that_hold_the_tables_together_block() -> None:
    for check in BLOCKING_CHECKS:
        assert all(spec.blocking and spec.description for spec in check.check_specs)


@pytest.mark.parametrize("job", ["daily", "ingest", "features", "scoring", "freshness"])
def test_only_the_clock_asks_for_the_newest_closed_day(job: str) -> None:
    graph = defs.resolve_job_def(job).asset_layer.asset_graph
    found = {key.name for key in graph.asset_check_keys}
    assert ("newest_closed_day_is_there" in found) == (job == "freshness")


@pytest.mark.parametrize(
    ("job", "leaves_out"),
    [
        ("daily", {"fraud_model"}),
        (
            "features",
            {
                "fraud_model",
                "fraud_predictions",
                "transaction_embeddings",
                "inference_ledger",
                "daily_risk_report",
                "prediction_quality",
                "feature_drift",
                "realtime_reconciliation",
            },
        ),
    ],
)
def test_jobs_select_what_their_names_say(job: str, leaves_out: set[str]) -> None:
    selected = defs.resolve_job_def(job).asset_layer.selected_asset_keys
    assert {key.to_user_string() for key in selected} == set(SPECS) - leaves_out


def test_jobs_schedules_and_sensors_say_what_they_are_for() -> None:
    repository = defs.get_repository_def()
    asking: list[Any] = [*repository.schedule_defs, *repository.sensor_defs]
    for asked in asking:
        assert asked.description, asked.name
    for name in ("daily", "ingest", "features", "scoring", "training", "freshness", "maintenance"):
        assert defs.resolve_job_def(name).description, name


def test_schedules_and_sensors_are_on_from_the_start() -> None:
    repository = defs.get_repository_def()
    running = {
        *(s.name for s in repository.schedule_defs if s.default_status.value == "RUNNING"),
        *(s.name for s in repository.sensor_defs if s.default_status.value == "RUNNING"),
    }
    assert running == {
        "nightly",
        "weekly_training",
        "daily_freshness",
        "weekly_maintenance",
        "late_data",
        "model_promoted",
    }
