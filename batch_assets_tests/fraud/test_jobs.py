"""The schedule catches up, and the sensor asks for exactly what files changed."""

import json
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_assets.definitions import defs
from batch_assets.fraud import jobs, tables
from batch_assets.fraud.features import LOOK_BACK_DAYS
from batch_assets.fraud.keys import days_between
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.fraud.run_requests import RUN_KEY, WAITS, contiguous, due, newest_first
from batch_assets_tests.fraud.runs import requested_days, resources, run, run_requested
from batch_assets_tests.fraud.zone import (
    START,
    Zone,
    a_day_of_rows,
    built_days,
    contents,
    days,
    put_any_model_live,
    save_any_model,
)

DAYS = 41


def filled(zone: Zone, count: int) -> Pipeline:
    """A zone with files of some days and a model, nothing built."""
    for day in days(count):
        zone.deliver(day, a_day_of_rows(day))
    pipeline = zone.pipeline()
    put_any_model_live(pipeline)
    return pipeline


@pytest.fixture
def zone(home: Path) -> Zone:
    return Zone(home).describe()


@pytest.fixture
def instance(tmp_path: Path) -> dg.DagsterInstance:
    return dg.DagsterInstance.local_temp(str(tmp_path))


def night(home: Path, instance: dg.DagsterInstance, at: datetime) -> list[dg.RunRequest]:
    """What the schedule asks for; nothing if it skips."""
    context = dg.build_schedule_context(
        instance=instance, scheduled_execution_time=at, resources=resources(home)
    )
    return requests(jobs.nightly(context))


def look(home: Path, instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    """What the sensor asks for; nothing if it skips."""
    context = dg.build_sensor_context(
        instance=instance, resources=resources(home), definitions=defs
    )
    return requests(jobs.late_data(context))


def look_for_models(home: Path, instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    """What the sensor of promotions asks for; nothing if it skips."""
    context = dg.build_sensor_context(
        instance=instance, resources=resources(home), definitions=defs
    )
    return requests(jobs.model_promoted(context))


def requests(answer: Any) -> list[dg.RunRequest]:
    if isinstance(answer, dg.SkipReason):
        return []
    assert isinstance(answer, list)
    assert answer
    return answer


def asked(answer: list[dg.RunRequest]) -> list[tuple[date, date]]:
    return [requested_days(request) for request in answer]


def a_run(instance: dg.DagsterInstance, job: str, status: dg.DagsterRunStatus) -> None:
    instance.create_run_for_job(defs.resolve_job_def(job), status=status)


@given(st.sets(st.dates(date(2026, 1, 1), date(2026, 2, 20))))
def test_contiguous_ranges_cover_each_day_once_and_no_two_touch(chosen: set[date]) -> None:
    ranges = contiguous(chosen)
    covered = [day for first, last in ranges for day in days_between(first, last)]
    assert covered == sorted(chosen)
    for (_, last), (first, _) in pairwise(ranges):
        assert first - last > timedelta(days=1)


def test_the_night_after_a_gap_of_three_days_one_run_catches_up(
    zone: Zone, home: Path, instance: dg.DagsterInstance
) -> None:
    pipeline = filled(zone, 9)
    pipeline.update(days(5))
    at = datetime(2026, 1, 9, 2, tzinfo=UTC)  # the machine was off on 6, 7 and 8 January

    answer = night(home, instance, at)

    assert asked(answer) == [(days(9)[5], days(9)[7])]
    assert run_requested(answer[0], home, instance).success
    assert sorted(pipeline.warehouse.snapshot(tables.FRAUD_PREDICTIONS).by_day) == days(8)
    assert night(home, instance, at) == []


def test_days_missed_in_several_places_are_all_asked_for(
    zone: Zone, home: Path, instance: dg.DagsterInstance
) -> None:
    pipeline = filled(zone, 50)
    pipeline.update([*days(2), *days(3, START + timedelta(days=45))])
    answer = night(home, instance, datetime(2026, 2, 18, 2, tzinfo=UTC))
    # of the last three days, those that look back on the gap are to be built anew
    assert asked(answer) == [(START + timedelta(days=2), START + timedelta(days=47))]


def test_no_more_days_are_caught_up_than_the_settings_say(
    zone: Zone, home: Path, instance: dg.DagsterInstance
) -> None:
    (home / "settings.toml").write_text(f"start_date = {START}\ncatch_up_days = 3\n")
    filled(zone, 9)
    answer = night(home, instance, datetime(2026, 1, 9, 2, tzinfo=UTC))
    assert asked(answer) == [(days(9)[5], days(9)[7])]


@pytest.mark.parametrize("job", ["daily", "ingest", "features", "scoring", "training"])
def test_nobody_asks_while_a_run_is_going_on(
    zone: Zone, home: Path, instance: dg.DagsterInstance, job: str
) -> None:
    filled(zone, 2)
    a_run(instance, job, dg.DagsterRunStatus.STARTED)
    assert night(home, instance, datetime(2026, 1, 3, 2, tzinfo=UTC)) == []
    assert look(home, instance) == []
    assert look_for_models(home, instance) == []


def test_a_run_that_is_over_or_changes_no_table_keeps_nobody_waiting(
    zone: Zone, home: Path, instance: dg.DagsterInstance
) -> None:
    filled(zone, 2)
    a_run(instance, "daily", dg.DagsterRunStatus.FAILURE)
    a_run(instance, "maintenance", dg.DagsterRunStatus.STARTED)
    answer = night(home, instance, datetime(2026, 1, 3, 2, tzinfo=UTC))
    assert asked(answer) == [(days(2)[0], days(2)[1])]


def test_yesterday_is_the_last_whole_day_of_utc_wherever_the_schedule_lives(
    zone: Zone, home: Path, instance: dg.DagsterInstance
) -> None:
    filled(zone, 4)
    at = datetime(2026, 1, 4, 2, tzinfo=ZoneInfo("Asia/Tokyo"))  # 3 January, 17:00 in UTC
    assert asked(night(home, instance, at)) == [(days(2)[0], days(2)[1])]


def test_a_late_row_is_ingested_then_its_day_and_those_that_look_back_are_built_then_all_is_quiet(
    zone: Zone, home: Path, instance: dg.DagsterInstance
) -> None:
    pipeline = filled(zone, DAYS)
    pipeline.update(days(DAYS))
    assert look(home, instance) == []
    late, arrival = START + timedelta(days=1), START + timedelta(days=DAYS - 1)
    zone.deliver(arrival, [("late", "c1", "s1", "900.00", f"{late}T12:00:00")], "late.csv")

    (ingest,) = answer = look(home, instance)
    assert asked(answer) == [(arrival, arrival)]
    assert ingest.job_name == "ingest"
    assert run_requested(ingest, home, instance).success

    (daily,) = answer = look(home, instance)
    assert asked(answer) == [(late, late + timedelta(days=LOOK_BACK_DAYS))]
    assert daily.job_name == "daily"
    assert run_requested(daily, home, instance).success

    assert look(home, instance) == []
    assert pipeline.stale_days(days(DAYS)) == []


def test_the_same_news_is_asked_for_under_the_same_key_and_other_news_under_another(
    zone: Zone, home: Path, instance: dg.DagsterInstance
) -> None:
    filled(zone, 2)
    (first,) = look(home, instance)
    (again,) = look(home, instance)
    zone.deliver(START, a_day_of_rows(START, salt="x"), "more.csv")
    (other,) = look(home, instance)
    assert first.run_key == again.run_key != other.run_key
    assert requested_days(first) == requested_days(other)


def test_files_that_arrived_on_days_apart_are_asked_for_one_by_one(
    zone: Zone, home: Path, instance: dg.DagsterInstance
) -> None:
    for day in (days(9)[0], days(9)[1], days(9)[6]):
        zone.deliver(day, a_day_of_rows(day))
    expected = [(days(9)[0], days(9)[1]), (days(9)[6], days(9)[6])]
    assert asked(look(home, instance)) == expected


def test_without_a_model_the_sensor_asks_up_to_the_features_and_no_more(
    zone: Zone, home: Path, instance: dg.DagsterInstance
) -> None:
    zone.deliver(START, a_day_of_rows(START))
    zone.pipeline().update([START])
    assert look(home, instance) == []
    put_any_model_live(zone.pipeline())
    assert asked(look(home, instance)) == [(START, START)]


@given(st.sets(st.dates(date(2026, 1, 1), date(2026, 4, 20))), st.integers(1, 40))
def test_the_newest_days_come_first_in_ranges_that_end(chosen: set[date], most: int) -> None:
    ranges = newest_first(chosen, most)
    covered = [day for first, last in reversed(ranges) for day in days_between(first, last)]
    assert covered == sorted(chosen)
    assert all((last - first).days < most for first, last in ranges)


def test_a_promotion_has_its_days_scored_again_by_one_sensor_and_then_all_is_quiet(
    zone: Zone, home: Path, instance: dg.DagsterInstance
) -> None:
    pipeline = filled(zone, DAYS)
    pipeline.update(days(DAYS))
    old = pipeline.models.live("fraud_model")
    assert look_for_models(home, instance) == []
    new = put_any_model_live(pipeline, seed=1)

    assert look(home, instance) == []
    answer = look_for_models(home, instance)
    assert [request.run_key for request in look_for_models(home, instance)] == [
        request.run_key for request in answer
    ]
    assert asked(answer) == [(days(DAYS)[11], days(DAYS)[-1]), (START, days(DAYS)[10])]
    assert [int(request.tags["dagster/priority"]) for request in answer] == [0, -1]
    versions: list[dict[date, str]] = []
    for request in answer:
        assert run("scoring", home, instance, requested_days(request)).success
        rows = contents(pipeline)["fraud_predictions"]
        versions.append({row["day"]: row["model_version"] for row in rows})
    assert versions[0] == {day: new if n >= 11 else old for n, day in enumerate(days(DAYS))}
    assert versions[1] == dict.fromkeys(days(DAYS), new)
    assert look_for_models(home, instance) == look(home, instance) == []
    assert pipeline.stale_days(days(DAYS)) == []


def test_a_rollback_asks_again_for_days_that_were_asked_for_before(
    zone: Zone, home: Path, instance: dg.DagsterInstance
) -> None:
    pipeline = filled(zone, 3)
    pipeline.update(days(3))
    keys = []
    for _ in range(2):
        put_any_model_live(pipeline, seed=1)
        (request,) = look_for_models(home, instance)
        keys.append(request.run_key)
        pipeline.update(days(3))
        pipeline.models.roll_back("fraud_model")
        (request,) = look_for_models(home, instance)
        keys.append(request.run_key)
        pipeline.update(days(3))
    assert len(set(keys)) == 4


def test_a_rescoring_run_that_fails_is_asked_for_again_a_little_later_twice_at_most(
    zone: Zone, home: Path, instance: dg.DagsterInstance
) -> None:
    pipeline = filled(zone, 3)
    pipeline.update(days(3))
    new = put_any_model_live(pipeline, seed=1)
    weights = home / "models" / "fraud_model" / new / "model.safetensors"
    saved = weights.read_bytes()
    (first,) = look_for_models(home, instance)
    asked_at, keys = datetime.now(UTC), [first.run_key]
    for wait in WAITS:
        weights.write_bytes(b"damaged")
        assert not run_requested(
            first.with_replaced_attrs(run_key=keys[-1], job_name="scoring"), home, instance
        ).success
        weights.write_bytes(saved)
        assert look_for_models(home, instance) == []
        asked_at = datetime.now(UTC) + wait
        (again,) = requests(due(instance, [first], asked_at))
        assert again.tags == first.tags
        keys.append(again.run_key)
    assert len(set(keys)) == 3
    weights.write_bytes(b"damaged")
    last = first.with_replaced_attrs(run_key=keys[-1], job_name="scoring")
    assert not run_requested(last, home, instance).success
    weights.write_bytes(saved)
    assert requests(due(instance, [first], asked_at + timedelta(days=9))) == []


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.SUCCESS])
def test_a_run_that_was_stopped_or_did_its_work_is_not_repeated(
    instance: dg.DagsterInstance, status: dg.DagsterRunStatus
) -> None:
    request = dg.RunRequest(run_key="why", job_name="scoring")
    instance.create_run_for_job(
        defs.resolve_job_def("scoring"), status=status, tags={RUN_KEY: "why"}
    )
    later = datetime.now(UTC) + timedelta(days=9)
    assert requests(due(instance, [request], later)) == [request]  # which Dagster leaves out


def test_late_rows_after_a_promotion_are_left_to_the_other_sensor(
    zone: Zone, home: Path, instance: dg.DagsterInstance
) -> None:
    pipeline = filled(zone, 9)
    pipeline.update(days(9))
    put_any_model_live(pipeline, seed=1)
    zone.deliver(days(9)[6], a_day_of_rows(days(9)[6], salt="z"), "late.csv")
    pipeline.ingest("transactions", [days(9)[6]])
    assert asked(look_for_models(home, instance)) == [(START, days(9)[5])]
    (daily,) = answer = look(home, instance)
    assert daily.job_name == "daily"
    assert asked(answer) == [(days(9)[6], days(9)[8])]


def test_the_night_does_what_the_sensor_did_not_but_no_more_days_than_the_settings_say(
    zone: Zone, home: Path, instance: dg.DagsterInstance
) -> None:
    pipeline = filled(zone, 9)
    pipeline.update(days(9))
    (home / "settings.toml").write_text(f"start_date = {START}\nrescore_days = 2\n")
    put_any_model_live(pipeline, seed=1)
    assert asked(look_for_models(home, instance)) == [(days(9)[7], days(9)[8])]
    answer = night(home, instance, datetime(2026, 1, 10, 2, tzinfo=UTC))
    assert asked(answer) == [(days(9)[7], days(9)[8])]


def test_each_week_a_model_is_trained_once_there_are_labels(
    zone: Zone, home: Path, instance: dg.DagsterInstance
) -> None:
    def week() -> Any:
        return jobs.weekly_training(
            dg.build_schedule_context(instance=instance, resources=resources(home))
        )

    pipeline = filled(zone, 9)
    assert isinstance(week(), dg.SkipReason)
    pipeline.update(days(7))
    assert isinstance(week(), dg.SkipReason)
    pipeline.update(days(9))
    assert isinstance(week(), dg.RunRequest)
    assert jobs.weekly_training.job_name == "training"
    assert jobs.weekly_training.cron_schedule == "0 3 * * sun"


def test_maintenance_changes_nothing_that_a_reader_sees(
    zone: Zone, home: Path, instance: dg.DagsterInstance
) -> None:
    pipeline = filled(zone, 6)
    zone.deliver(START + timedelta(days=1), a_day_of_rows(START, salt="y"), "late.csv")
    for day in days(6):
        pipeline.update([day])
    pipeline.update(pipeline.stale_days(days(6)))
    before, keys = contents(pipeline), built_days(pipeline)
    assert run("maintenance", home, instance).success
    assert contents(pipeline) == before
    assert built_days(pipeline) == keys
    assert pipeline.stale_days(days(6)) == []
    assert look(home, instance) == []


def test_maintenance_keeps_the_versions_that_predictions_name_and_that_may_be_live_again(
    zone: Zone, home: Path, instance: dg.DagsterInstance
) -> None:
    pipeline = filled(zone, 2)
    named = pipeline.models.live("fraud_model")
    pipeline.update(days(2))
    _, before, live = (put_any_model_live(pipeline, seed) for seed in (1, 2, 3))
    candidates = [save_any_model(pipeline, seed) for seed in (4, 5)]
    (home / "settings.toml").write_text(f"start_date = {START}\nkeep_models = 2\n")
    for second, version in enumerate([*candidates, before, live, named]):  # the retired one: older
        card = home / "models" / "fraud_model" / str(version) / "card.json"
        content = json.loads(card.read_text()) | {"created_at": f"2099-01-01T00:00:0{second}"}
        card.write_text(json.dumps(content))
    assert run("maintenance", home, instance).success
    assert set(pipeline.models.versions("fraud_model")) == {named, before, live, *candidates}
    assert pipeline.stale_days(days(2)) == days(2)
    assert asked(look_for_models(home, instance)) == [(START, days(2)[1])]
