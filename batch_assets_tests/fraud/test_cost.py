"""What days cost is what the ledger says, and what they would have cost is measured."""

import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from batch_assets.engines.prices import HOUR, Prices
from batch_assets.errors import BatchAssetsError
from batch_assets.fraud import tables
from batch_assets.fraud.cost import OnDemand, cost
from batch_assets.fraud.ledger import record
from batch_assets.fraud.pipeline import Pipeline
from batch_assets_tests.fraud.recorders import NO_PRICES, entry
from batch_assets_tests.fraud.zone import START, Zone, a_day_of_rows, days, put_any_model_live
from batch_assets_tests.test_cli import call

CALLS = 20
ROWS = 12
DAYS = 3
NORMAL, SPOT = 3.6, 0.9
WITH_PRICES = f"""
start_date = {START}
[prices]
currency = "USD"
on_demand_utilisation = 0.5
[prices.devices.cpu]
normal = {NORMAL}
spot = {{ "0-24" = {SPOT} }}
"""
"""Elapsed seconds of each attempt in these tests are 2, in spot hours."""


@pytest.fixture(scope="module")
def scored_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with some scored days and an empty ledger."""
    home = tmp_path_factory.mktemp("cost") / "home"
    home.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BATCH_ASSETS_HOME", str(home))
        zone = Zone(home).describe()
        for day in days(DAYS):
            zone.deliver(day, a_day_of_rows(day, ROWS))
        pipeline = zone.pipeline()
        put_any_model_live(pipeline)
        pipeline.update(days(DAYS))
        empty_ledger(pipeline)
    return home


@pytest.fixture
def scored(scored_home: Path, home: Path) -> Callable[[str], Pipeline]:
    """Opens a copy of that home, with settings of the test's own."""

    def of(settings: str) -> Pipeline:
        shutil.copytree(scored_home, home, dirs_exist_ok=True)
        (home / "settings.toml").write_text(settings)
        return Zone(home).pipeline()

    return of


def empty_ledger(pipeline: Pipeline) -> None:
    base = pipeline.warehouse.snapshot(tables.INFERENCE_LEDGER)
    if base.files:
        pipeline.warehouse.replace_days(base, [], list(base.by_day))


def keep(pipeline: Pipeline, *entries: Any, prices: Prices | None = None) -> None:
    assert record(pipeline.warehouse, prices or pipeline.settings.prices, entries)


def test_each_day_costs_what_its_attempts_did_and_all_cost_the_sum(
    scored: Callable[[str], Pipeline],
) -> None:
    pipeline = scored(WITH_PRICES)
    first, second, _ = days(DAYS)
    keep(pipeline, entry(first, outcome="interrupted"), entry(first, rows_twice=5), entry(second))

    found = cost(pipeline, first, second, CALLS)

    each = SPOT * 2 / HOUR
    assert [line["day"] for line in found["days"]] == [first, second]
    assert [line["attempts"] for line in found["days"]] == [2, 1]
    assert [line["money"] for line in found["days"]] == pytest.approx([2 * each, each])
    total = found["total"]
    assert (total["rows"], total["rows_twice"], total["attempts"]) == (2 * ROWS, 5, 3)
    assert total["device_seconds"] == 6.0
    assert total["money"] == pytest.approx(3 * each)
    assert total["money_per_million_rows"] == pytest.approx(3 * each / (2 * ROWS) * 1e6)
    assert total["device_seconds_per_million_rows"] == pytest.approx(6 / (2 * ROWS) * 1e6)
    assert found["currency"] == "USD"
    assert found["notes"] == []


def test_time_and_price_save_apart_and_together(scored: Callable[[str], Pipeline]) -> None:
    pipeline = scored(WITH_PRICES)
    keep(pipeline, entry(START))

    found = cost(pipeline, START, START, CALLS)

    alone, saved = found["on_demand"], found["saving_percent"]
    assert alone["calls"] == CALLS
    assert 0 < alone["milliseconds_median"] <= alone["milliseconds_p95"]
    held = ROWS * alone["milliseconds_median"] / 1e3 / alone["calls_at_once"] / 0.5
    assert alone["device_seconds"] == pytest.approx(held)
    assert alone["money"] == pytest.approx(NORMAL * held / HOUR)
    assert saved["from_time"] == pytest.approx(100 * (1 - 2.0 / held))
    assert saved["from_price"] == pytest.approx(100 * (1 - SPOT / NORMAL))
    assert saved["in_all"] == pytest.approx(100 * (1 - found["total"]["money"] / alone["money"]))


def test_calls_that_keep_the_device_half_as_busy_hold_it_for_twice_as_long() -> None:
    import numpy as np

    found = OnDemand("cpu", "", at_once=2, seconds=np.array([0.001, 0.002, 0.9]))
    assert found.device_seconds(1_000_000, 1.0) == pytest.approx(1000)
    assert found.device_seconds(1_000_000, 0.5) == pytest.approx(2000)


def test_without_prices_there_is_no_money_but_all_the_rest(
    scored: Callable[[str], Pipeline], home: Path
) -> None:
    pipeline = scored(f"start_date = {START}\n")
    keep(pipeline, entry(START))
    found = cost(pipeline, START, START, CALLS)
    assert found["total"]["money"] is None
    assert found["total"]["money_per_million_rows"] is None
    assert found["on_demand"]["money"] is None
    assert found["saving_percent"]["from_time"] is not None
    assert found["saving_percent"]["from_price"] is None
    assert found["saving_percent"]["in_all"] is None
    (note,) = found["notes"]
    assert "no price is set for cpu" in note
    assert str(home / "settings.toml") in note


def test_attempts_before_prices_were_set_or_in_another_currency_cost_what_they_would_today(
    scored: Callable[[str], Pipeline],
) -> None:
    pipeline = scored(WITH_PRICES)
    euros = Prices.model_validate({"devices": {"cpu": {"normal": 1000.0}}})
    keep(pipeline, entry(START), prices=NO_PRICES)
    keep(pipeline, entry(START), prices=euros)
    found = cost(pipeline, START, START, CALLS)
    assert found["total"]["money"] == pytest.approx(2 * SPOT * 2 / HOUR)


def test_days_that_are_not_scored_or_not_on_record_are_named(
    scored: Callable[[str], Pipeline],
) -> None:
    pipeline = scored(WITH_PRICES)
    keep(pipeline, entry(START))
    last = START + timedelta(days=DAYS + 1)
    found = cost(pipeline, START, last, CALLS)
    assert found["total"]["rows"] == ROWS
    unrecorded, missing = found["notes"]
    assert f"2 days between {days(DAYS)[1]} and {days(DAYS)[2]} are scored" in unrecorded
    assert f"--from {days(DAYS + 1)[-1]} --to {last}" in missing


def test_what_was_scored_on_another_device_is_not_compared(
    scored: Callable[[str], Pipeline],
) -> None:
    pipeline = scored(WITH_PRICES)
    elsewhere = entry(START)
    elsewhere.stats.device = "cuda:0"
    try:
        keep(pipeline, elsewhere)
    finally:
        elsewhere.stats.device = "cpu"
    found = cost(pipeline, START, START, CALLS)
    assert found["on_demand"] is None
    assert found["saving_percent"] is None
    assert any("cannot be compared" in note for note in found["notes"])
    assert any("no price is set for cuda:0" in note for note in found["notes"])


def test_without_a_model_costs_are_shown_and_calls_are_not_measured(
    scored: Callable[[str], Pipeline], home: Path
) -> None:
    pipeline = scored(WITH_PRICES)
    keep(pipeline, entry(START))
    shutil.rmtree(home / "models")
    found = cost(pipeline, START, START, CALLS)
    assert found["total"]["money"] == pytest.approx(SPOT * 2 / HOUR)
    assert found["on_demand"] is None
    (note,) = found["notes"]
    assert "cannot be measured: no fraud model is live" in note


def test_days_without_a_ledger_are_an_error_that_says_what_to_do(home: Path) -> None:
    pipeline = Zone(home).describe().pipeline()
    with pytest.raises(BatchAssetsError, match=r"not scored; `batch-assets run --from 2026-01-01"):
        cost(pipeline, START, START)
    with pytest.raises(BatchAssetsError, match="comes after the last"):
        cost(pipeline, START, START - timedelta(days=1))


def test_the_command_prints_json_or_a_table_and_mistakes_in_one_line(
    scored: Callable[[str], Pipeline], home: Path
) -> None:
    pipeline = scored(WITH_PRICES)
    keep(pipeline, *(entry(day) for day in days(2)))
    arguments = ["cost", "--from", str(START), "--to", str(days(2)[1]), "--calls", str(CALLS)]

    done = call(home, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {"first_day", "last_day", "currency", "days", "total"} < set(found)
    assert {"on_demand", "saving_percent", "notes"} < set(found)
    assert [line["day"] for line in found["days"]] == ["2026-01-01", "2026-01-02"]
    assert found["total"]["rows"] == 2 * ROWS

    shown = call(home, *arguments)
    assert shown.returncode == 0, shown.stderr
    for part in ("2026-01-02", "in all", "USD a million rows", "median", "p95", "of the price"):
        assert part in shown.stdout

    refused = call(home, "cost", "--from", "2026-02-01", "--to", "2026-02-01")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: 2026-02-01 is not scored")
    assert len(refused.stderr.splitlines()) == 1


def test_the_hours_of_what_is_priced_later_are_those_of_its_time(
    scored: Callable[[str], Pipeline],
) -> None:
    pipeline = scored(WITH_PRICES.replace("0-24", "12-13"))
    keep(pipeline, entry(START), prices=NO_PRICES)  # at 12:00, UTC
    found = cost(pipeline, START, START, CALLS)
    assert found["total"]["money"] == pytest.approx(SPOT * 2 / HOUR)
