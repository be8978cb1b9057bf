"""Dagster's SQLite files are written without waiting, and are whole when all is closed."""

import sqlite3
from pathlib import Path

import dagster as dg

from batch_assets.instance import dagster_instance


@dg.op
def speak(context: dg.OpExecutionContext) -> None:
    for number in range(20):
        context.log_event(dg.AssetMaterialization("spoken", metadata={"number": number}))


@dg.job
def speech() -> None:
    speak()


def test_what_was_recorded_is_in_the_files_when_the_instance_is_closed(home: Path) -> None:
    with dagster_instance() as instance:
        result = speech.execute_in_process(instance=instance)
    files = sorted((home / "dagster" / "history").rglob("*.db"))
    assert {file.stem for file in files} >= {"runs", "index", result.run_id}
    assert list((home / "dagster" / "history").rglob("*.db-wal")) == []
    for name in ("index", result.run_id):
        database = sqlite3.connect(home / "dagster" / "history" / "runs" / f"{name}.db")
        told = "SELECT count(*) FROM event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION'"
        assert database.execute(told).fetchone() == (20,)
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        database.close()


def test_files_may_be_used_on_after_they_were_closed(home: Path) -> None:
    for _ in range(2):
        with dagster_instance() as instance:
            assert speech.execute_in_process(instance=instance).success
    with dagster_instance() as instance:
        assert instance.get_runs_count() == 2
