"""The pool lets as many steps run as there are devices, unless a person has decided otherwise."""

import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from batch_assets.cli import dev
from batch_assets.engines.gpu import GPU_POOL, places
from batch_assets.engines.pool import fit_pool
from batch_assets.instance import dagster_instance


@pytest.fixture
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    with dagster_instance() as instance:
        yield instance


def limit(instance: dg.DagsterInstance) -> int:
    return instance.event_log_storage.get_concurrency_info(GPU_POOL).slot_count


def use_the_pool(instance: dg.DagsterInstance) -> None:
    @dg.asset(pool=GPU_POOL)
    def computed() -> None: ...

    assert dg.materialize([computed], instance=instance).success


def test_the_limit_is_the_number_of_places_and_stays_when_the_pool_is_used(
    instance: dg.DagsterInstance,
) -> None:
    use_the_pool(instance)
    assert limit(instance) == 1
    assert fit_pool(instance, 3) == 3
    use_the_pool(instance)
    assert limit(instance) == 3


def test_the_limit_follows_the_devices(instance: dg.DagsterInstance) -> None:
    for number in (4, 2, 3):
        assert fit_pool(instance, number) == number
        assert limit(instance) == number


def test_a_limit_that_a_person_set_stays(instance: dg.DagsterInstance) -> None:
    fit_pool(instance, 2)
    instance.event_log_storage.set_concurrency_slots(GPU_POOL, 5)
    assert fit_pool(instance, 3) == 5
    assert limit(instance) == 5


def test_a_limit_that_was_set_before_the_first_look_stays(instance: dg.DagsterInstance) -> None:
    instance.event_log_storage.set_concurrency_slots(GPU_POOL, 1)
    assert fit_pool(instance, 3) == 1


@pytest.fixture
def started(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The programs that are started in place of this one."""
    programs: list[str] = []
    monkeypatch.setattr(os, "execv", lambda program, arguments: programs.append(program.name))
    monkeypatch.setenv("PYTHONWARNINGS", "default")
    return programs


def test_dev_sets_the_limit_to_the_devices_found(started: list[str]) -> None:
    dev(3000)
    assert started == ["dagster"]
    with dagster_instance() as instance:
        assert limit(instance) == places("auto", 1.0)


def test_dev_starts_without_the_device_that_is_configured(
    started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCH_ASSETS_DEVICE", "cuda:99")
    dev(3000)
    assert started == ["dagster"]
    with dagster_instance() as instance:
        assert limit(instance) == 0  # none was set: the default comes with the first use


def test_pools_count_steps_and_give_back_what_a_crash_left(instance: dg.DagsterInstance) -> None:
    pools = instance.get_concurrency_config().pool_config
    assert pools.pool_granularity
    assert pools.pool_granularity.value == "op"
    assert instance.run_monitoring_enabled
    assert instance.get_settings("run_monitoring")["free_slots_after_run_end_seconds"] == 300
