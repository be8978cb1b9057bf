"""Whatever happens on the way, the tables end as if they had been built from scratch."""

import multiprocessing
import os
import shutil
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest

from batch_assets.fraud import tables
from batch_assets.fraud.build import Builder, Built, produce_sql
from batch_assets.fraud.embeddings import EMBEDDINGS
from batch_assets.fraud.keys import CLEAN, FEATURES, STEPS
from batch_assets.fraud.pipeline import Pipeline
from batch_assets_tests.fraud.zone import (
    START,
    Zone,
    a_day_of_rows,
    built_days,
    contents,
    days,
    put_any_model_live,
    rows_of,
)

DAYS = 75
LATE_DAY = START + timedelta(days=10)
SCORED_TABLES = [s.tables[-1] for s in STEPS.values()]


@pytest.fixture
def zone(home: Path) -> Zone:
    return Zone(home).describe()


def fill(zone: Zone, count: int) -> None:
    for day in days(count):
        zone.deliver(day, a_day_of_rows(day))
        known = a_day_of_rows(day - timedelta(days=7))
        zone.label(day, [(row[0], row[4], 1) for row in known[::4] if day - START >= timedelta(7)])


def from_scratch(zone: Zone, home: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> object:
    """What a new home with the same files holds."""
    fresh = home.with_name("fresh")
    fresh.mkdir()
    for name in ("feeds.yaml", "settings.toml"):
        shutil.copy(home / name, fresh / name)
    shutil.copytree(home / "landing", fresh / "landing")
    monkeypatch.setenv("BATCH_ASSETS_HOME", str(fresh))
    pipeline = Zone(fresh).pipeline()
    put_any_model_live(pipeline)
    pipeline.update(days(count))
    result = contents(pipeline)
    monkeypatch.setenv("BATCH_ASSETS_HOME", str(home))
    return result


def test_a_late_row_rebuilds_the_days_that_look_back_on_it_and_no_other(
    zone: Zone, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(zone, DAYS)
    pipeline = zone.pipeline()
    put_any_model_live(pipeline)
    pipeline.update(days(DAYS))
    before = built_days(pipeline)
    arrival = START + timedelta(days=DAYS - 1)
    zone.deliver(arrival, [("late", "c1", "s1", "900.00", f"{LATE_DAY}T12:00:00")], "late.csv")

    pipeline.ingest("transactions", [arrival])
    stale = pipeline.stale_days(days(DAYS))
    looks_back = [LATE_DAY + timedelta(days=n) for n in range(FEATURES.look_back + 1)]
    assert stale == looks_back
    pipeline.update(stale)

    after = built_days(pipeline)
    for table in (tables.CLEAN_TRANSACTIONS, tables.CUSTOMER_DAYS):
        assert changed(before, after, table.name) == [LATE_DAY]
    for table in (tables.TRANSACTION_FEATURES, tables.FRAUD_PREDICTIONS):
        assert changed(before, after, table.name) == looks_back
    assert pipeline.stale_days(days(DAYS)) == []
    assert contents(pipeline) == from_scratch(zone, home, monkeypatch, DAYS)


def changed(
    before: dict[str, dict[date, str]], after: dict[str, dict[date, str]], table: str
) -> list[date]:
    return sorted(day for day in after[table] if after[table][day] != before[table].get(day))


def test_day_by_day_equals_all_at_once(
    zone: Zone, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(zone, 12)
    pipeline = zone.pipeline()
    put_any_model_live(pipeline)
    for day in days(12):
        pipeline.update([day])
    pipeline.update(pipeline.stale_days(days(12)))
    assert contents(pipeline) == from_scratch(zone, home, monkeypatch, 12)


def test_running_again_changes_nothing(zone: Zone) -> None:
    fill(zone, 9)
    pipeline = zone.pipeline()
    put_any_model_live(pipeline)
    pipeline.update(days(9))
    versions = {t.name: pipeline.warehouse.snapshot(t).version for t in tables.TABLES}
    vectors = contents(pipeline)[EMBEDDINGS.name]
    pipeline.update(days(9))
    assert versions == {t.name: pipeline.warehouse.snapshot(t).version for t in tables.TABLES}
    assert contents(pipeline)[EMBEDDINGS.name] == vectors


@pytest.mark.parametrize(
    "lost",
    [
        "warehouse/clean_transactions",
        "warehouse/transaction_features",
        "warehouse/ingested_files",
        "warehouse/raw_transactions",
        "warehouse/fraud_predictions",
        "vectors",
    ],
)
def test_what_a_person_deleted_is_built_again(zone: Zone, home: Path, lost: str) -> None:
    fill(zone, 9)
    pipeline = zone.pipeline()
    put_any_model_live(pipeline)
    pipeline.update(days(9))
    before = contents(pipeline)
    shutil.rmtree(home / lost)
    again = zone.pipeline()
    again.update(days(9))
    assert contents(again) == before


def test_a_changed_file_replaces_its_rows_and_one_that_vanished_keeps_them(zone: Zone) -> None:
    fill(zone, 3)
    pipeline = zone.pipeline()
    pipeline.update(days(3))
    zone.deliver(START, [("only", "c1", "s1", "5.00", f"{START}T10:00:00")])
    (zone.home / f"landing/shop/{days(2)[1]}/a.csv").unlink()
    pipeline.update(days(3))
    found = [row["transaction_id"] for row in rows_of(pipeline, tables.CLEAN_TRANSACTIONS)]
    assert [i for i in found if i.startswith("only")] == ["only"]
    assert len(found) == 1 + 12 + 12


def test_a_file_without_a_day_in_its_path_belongs_to_the_day_it_was_first_seen(
    zone: Zone, home: Path
) -> None:
    text = (home / "feeds.yaml").read_text().replace("shop/{day}/*.csv", "shop/*.csv")
    (home / "feeds.yaml").write_text(text)
    zone.write("shop/a.csv", f"id,who,where,amount,at,ccy\nk,c,s,1,{START}T10:00:00,EUR\n")
    pipeline = zone.pipeline()
    (arrival,) = pipeline.news()["transactions"]
    pipeline.ingest("transactions", [arrival])
    (row,) = rows_of(pipeline, tables.RAW_TRANSACTIONS)
    assert (row["day"], row["happened_on"]) == (arrival, START)
    shutil.rmtree(home / "warehouse/ingested_files")
    assert zone.pipeline().looks()[1].files[0].arrived == arrival


def test_a_new_model_is_what_all_days_are_scored_with(zone: Zone) -> None:
    fill(zone, 5)
    pipeline = zone.pipeline()
    put_any_model_live(pipeline)
    pipeline.update(days(5))
    assert pipeline.stale_days(days(5)) == []
    version = put_any_model_live(pipeline, seed=1)
    assert pipeline.stale_days(days(5)) == days(5)
    pipeline.update(days(5))
    assert {r["model_version"] for r in rows_of(pipeline, tables.FRAUD_PREDICTIONS)} == {version}
    assert {r["model_version"] for r in contents(pipeline)[EMBEDDINGS.name]} == {version}


def test_days_before_the_one_that_fails_stay(zone: Zone) -> None:
    fill(zone, 9)
    pipeline = zone.pipeline()
    for kind in ("rates", "transactions", "labels"):
        pipeline.ingest(kind, days(9))
    pipeline.build(STEPS["exchange_rates"], days(9))
    spoil(pipeline, days(9)[6])
    built = Built()
    with pytest.raises(Exception, match=r"parquet"):
        pipeline.build(CLEAN, days(9), built)
    assert built.made == days(6)
    assert sorted(pipeline.warehouse.snapshot(tables.CLEAN_TRANSACTIONS).by_day) == days(6)


def spoil(pipeline: Pipeline, day: date) -> None:
    snapshot = pipeline.warehouse.snapshot(tables.RAW_TRANSACTIONS)
    for file in snapshot.by_day[day]:
        Path(snapshot.root, file.path).write_bytes(b"no parquet at all")


def test_a_day_built_meanwhile_by_another_process_is_not_overwritten(zone: Zone) -> None:
    fill(zone, 4)
    pipeline = zone.pipeline()
    for kind in ("rates", "transactions", "labels"):
        pipeline.ingest(kind, days(4))
    pipeline.build(STEPS["exchange_rates"], days(4))
    raced = False
    sql: Callable[..., object] = produce_sql(CLEAN)

    def produce(*arguments: object) -> object:
        nonlocal raced
        staged = sql(*arguments)
        if not raced:
            raced = True
            pipeline.build(CLEAN, days(2))
        return staged

    builder = Builder(CLEAN, pipeline.warehouse, pipeline.state, produce)  # type: ignore[arg-type]
    built = builder.run(days(4))
    assert raced
    assert built.unchanged == days(2)
    assert built.made == days(4)[2:]
    assert len(rows_of(pipeline, tables.CLEAN_TRANSACTIONS)) == 4 * 12


def _update_in_a_process(home: str, first: int, count: int) -> None:
    os.environ["BATCH_ASSETS_HOME"] = home
    pipeline = Zone(Path(home)).pipeline()
    wanted = days(count, START + timedelta(days=first))
    pipeline.update(wanted)
    pipeline.update(pipeline.stale_days(wanted))


def test_two_processes_with_overlapping_ranges_end_as_one(
    zone: Zone, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(zone, 15)
    late = ("late", "c1", "s1", "9.00", f"{START + timedelta(days=2)}T12:00:00")
    zone.deliver(START + timedelta(days=12), [late], "late.csv")
    put_any_model_live(zone.pipeline())
    spawn = multiprocessing.get_context("spawn")
    processes = [
        spawn.Process(target=_update_in_a_process, args=(str(home), first, 10)) for first in (0, 5)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    pipeline = zone.pipeline()
    pipeline.update(pipeline.stale_days(days(15)))
    assert contents(pipeline) == from_scratch(zone, home, monkeypatch, 15)
