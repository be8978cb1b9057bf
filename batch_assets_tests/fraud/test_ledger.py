"""The ledger keeps every attempt, whoever writes at once, and never stops the scoring."""

import multiprocessing
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import pytest

from batch_assets.engines.gpu_meter import GpuUse, Reading
from batch_assets.engines.prices import Prices
from batch_assets.fraud.assets.ledger import ledger_metadata, ledger_of_days
from batch_assets.fraud.ledger import entries, record, work_done_twice
from batch_assets.fraud.tables import INFERENCE_LEDGER
from batch_assets.storage.maintenance import compact
from batch_assets.storage.warehouse import Warehouse
from batch_assets_tests.fraud.recorders import (
    ASSET,
    EACH,
    NO_PRICES,
    entry,
    keep_recording,
    line_up,
)
from batch_assets_tests.fraud.zone import START, days

RACERS = 4
PRICES = Prices.model_validate(
    {"currency": "USD", "devices": {"cpu": {"normal": 3.6, "off_peak": {"22-6": 1.8}}}}
)


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(str(tmp_path / "warehouse"))


def test_of_four_processes_that_record_at_once_no_entry_is_lost_and_no_number_is_given_twice(
    warehouse: Warehouse,
) -> None:
    spawn = multiprocessing.get_context("spawn")
    start = spawn.Barrier(RACERS + 1)
    with ProcessPoolExecutor(RACERS, spawn, initializer=line_up, initargs=(start,)) as pool:
        racing = [
            pool.submit(keep_recording, warehouse.root, f"p{n}", days(2)) for n in range(RACERS)
        ]
        start.wait(timeout=120)
        while not all(one.done() for one in racing):  # maintenance does not wait for anybody
            compact(warehouse, INFERENCE_LEDGER)
        for one in racing:
            one.result()
    expected = {f"p{n}-{turn}" for n in range(RACERS) for turn in range(EACH)}
    rows = entries(warehouse, *days(2))
    for day in days(2):
        of_day = [row for row in rows if row["day"] == day]
        assert [row["attempt"] for row in of_day] == list(range(1, RACERS * EACH + 1))
        assert {row["run_id"] for row in of_day} == expected


def test_every_column_holds_what_the_attempt_was(warehouse: Warehouse) -> None:
    at = datetime(2026, 3, 10, 23, 59, 59, tzinfo=timezone(timedelta(hours=2)))  # 21:59:59 UTC
    gpu = GpuUse([Reading(busy=0.5, memory_bytes=122, celsius=56), Reading(1.0, 123, 54)])
    made = replace(
        entry(run_id="run", rows_twice=7, outcome="interrupted", model_version="m1"),
        started_at=at,
        device_name="Imagined GPU",
        gpu=gpu,
    )
    assert record(warehouse, PRICES, [made])
    (row,) = entries(warehouse, START, START)
    assert row == {
        "asset": ASSET,
        "attempt": 1,
        "run_id": "run",
        "outcome": "interrupted",
        "started_at": datetime(2026, 3, 10, 21, 59, 59),
        "engine": "local",
        "model_version": "m1",
        "rows": 1000,
        "rows_reused": 100,
        "rows_twice": 7,
        "read_seconds": 0.25,
        "compute_seconds": 1.5,
        "write_seconds": 0.5,
        "waiting_seconds": 0.125,
        "elapsed_seconds": 2.0,
        "device": "cpu",
        "device_name": "Imagined GPU",
        "devices": 1.0,
        "device_seconds": 2.0,
        "precision": "fp32",
        "compiled": False,
        "threads": 2,
        "batch_rows": 1024,
        "out_of_memory": 1,
        "peak_memory_bytes": 10**9,
        "bytes_read": 4096,
        "bytes_written": 2048,
        "gpu_utilisation": 0.75,
        "gpu_memory_bytes": 123,
        "gpu_temperature": 56.0,
        "price_per_device_hour": pytest.approx(2.7),  # a second at each of the two prices
        "price_kind": "normal+off-peak",
        "money": pytest.approx(2.7 * 2 / 3600),
        "currency": "USD",
        "day": START,
    }
    assert list(row) == list(INFERENCE_LEDGER.columns)


def test_several_devices_are_paid_for_as_long_as_the_slowest_of_them_worked(
    warehouse: Warehouse,
) -> None:
    record(warehouse, PRICES, [entry(elapsed_seconds=1.0, devices=2)])
    (row,) = entries(warehouse, START, START)
    assert (row["elapsed_seconds"], row["device_seconds"]) == (1.0, 2.0)
    assert row["money"] == pytest.approx(3.6 * 2 / 3600)


def test_without_prices_or_a_gpu_their_columns_are_null(warehouse: Warehouse) -> None:
    record(warehouse, NO_PRICES, [entry()])
    (row,) = entries(warehouse, START, START)
    assert {name for name, value in row.items() if value is None} == {
        "price_per_device_hour",
        "price_kind",
        "money",
        "currency",
        "device_name",
        "gpu_utilisation",
        "gpu_memory_bytes",
        "gpu_temperature",
    }


def test_attempts_are_counted_for_each_asset_and_day_on_its_own(warehouse: Warehouse) -> None:
    first, second = days(2)
    record(warehouse, NO_PRICES, [entry(first), entry(first), entry(second)])
    record(warehouse, NO_PRICES, [entry(second), replace(entry(second), asset="other")])
    found = Counter((r["day"], r["asset"], r["attempt"]) for r in entries(warehouse, first, second))
    expected = [(day, ASSET, n) for day in (first, second) for n in (1, 2)]
    assert found == Counter([*expected, (second, "other", 1)])


def test_an_attempt_that_is_recorded_again_is_there_once(warehouse: Warehouse) -> None:
    first, second = entry(run_id="a"), entry(run_id="b")
    record(warehouse, NO_PRICES, [first])
    version = warehouse.snapshot(INFERENCE_LEDGER).version
    assert record(warehouse, NO_PRICES, [first, first])
    assert warehouse.snapshot(INFERENCE_LEDGER).version == version
    record(warehouse, NO_PRICES, [first, second, second])
    found = [(row["attempt"], row["run_id"]) for row in entries(warehouse, START, START)]
    assert found == [(1, "a"), (2, "b")]


def test_only_the_days_asked_for_are_read_and_none_where_there_is_no_ledger(
    warehouse: Warehouse,
) -> None:
    assert entries(warehouse, date.min, date.max) == []
    record(warehouse, NO_PRICES, [entry(day) for day in days(5)])
    assert [row["day"] for row in entries(warehouse, *days(3)[1:])] == days(3)[1:]


def test_work_done_twice_is_counted_by_day(warehouse: Warehouse) -> None:
    first, second, third = days(3)
    record(
        warehouse,
        NO_PRICES,
        [entry(first, rows_twice=5), entry(first, rows_twice=6), entry(second), entry(third)],
    )
    assert work_done_twice(warehouse, first, third) == {first: 11}


def test_a_ledger_that_cannot_be_written_is_a_warning(warehouse: Warehouse) -> None:
    record(warehouse, NO_PRICES, [entry()])
    log = Path(warehouse.root, INFERENCE_LEDGER.name, "_delta_log")
    for file in log.iterdir():
        file.write_text("no log")
    with pytest.warns(RuntimeWarning, match="inference_ledger: not recorded: "):
        assert not record(warehouse, NO_PRICES, [entry()])


def test_maintenance_merges_what_many_runs_wrote(warehouse: Warehouse) -> None:
    for n in range(5):
        record(warehouse, NO_PRICES, [entry(day, f"r{n}") for day in days(2)])
    before = entries(warehouse, *days(2))
    assert compact(warehouse, INFERENCE_LEDGER) == 8
    assert len(warehouse.snapshot(INFERENCE_LEDGER).files) == 2
    assert entries(warehouse, *days(2)) == before
    record(warehouse, NO_PRICES, [entry(START)])
    assert entries(warehouse, START, START)[-1]["attempt"] == 6


def test_the_metadata_of_a_day_say_what_all_its_attempts_took(warehouse: Warehouse) -> None:
    first, second = days(2)
    record(
        warehouse,
        PRICES,
        [entry(first), entry(second, rows_twice=3, outcome="interrupted"), entry(second)],
    )
    shown = ledger_of_days(warehouse, [first, second], ASSET)(second)
    assert shown["attempts"] == 2
    assert shown["outcome"] == "done"
    assert shown["rows_computed_twice"] == 3
    assert shown["rows_per_second"] == 500
    assert shown["device_seconds"] == 4.0
    assert shown["compute_seconds"] == 3.0
    assert shown["cost_USD"] == pytest.approx(2 * 2 * 3.6 / 3600)
    for plot in ("speed", "seconds_by_stage"):
        assert shown[plot].value.startswith("![")
    assert ledger_of_days(warehouse, [first], "another")(first) == {}


def test_metadata_of_attempts_without_a_price_or_a_finished_day_leave_both_out(
    warehouse: Warehouse,
) -> None:
    record(warehouse, NO_PRICES, [entry(outcome="failed")])
    rows = entries(warehouse, START, START)
    shown = ledger_metadata(rows, rows)
    assert shown["outcome"] == "failed"
    assert "speed" not in shown
    assert not [name for name in shown if name.startswith("cost")]
