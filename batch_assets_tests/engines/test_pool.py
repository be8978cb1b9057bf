"""The pool lets as many steps run as there are devices, unless a person has decided otherwise."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from batch_assets.engines.gpu import GPU_POOL
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
    for places in (4, 2, 3):
        assert fit_pool(instance, places) == places
        assert limit(instance) == places


def test_a_limit_that_a_person_set_stays(instance: dg.DagsterInstance) -> None:
    fit_pool(instance, 2)
    instance.event_log_storage.set_concurrency_slots(GPU_POOL, 5)
    assert fit_pool(instance, 3) == 5
    assert limit(instance) == 5


def test_a_limit_that_was_set_before_the_first_look_stays(instance: dg.DagsterInstance) -> None:
    instance.event_log_storage.set_concurrency_slots(GPU_POOL, 1)
    assert fit_pool(instance, 3) == 1


def test_pools_count_steps_and_give_back_what_a_crash_left(instance: dg.DagsterInstance) -> None:
    pools = instance.get_concurrency_config().pool_config
    assert pools.pool_granularity == dg._core.instance.config.PoolGranularity.OP
    assert instance.run_monitoring_enabled
    assert instance.get_settings("run_monitoring")["free_slots_after_run_end_seconds"] == 300
