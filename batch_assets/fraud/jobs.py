"""Jobs, the schedules that start them, and the sensors that notice files and new models."""

from collections.abc import Sequence
from datetime import UTC, date, timedelta
from typing import Any

import dagster as dg

from batch_assets.fraud.assets.common import pipeline_of
from batch_assets.fraud.checks import BLOCKING_CHECKS, NEWEST_DAY_CHECKS
from batch_assets.fraud.drift_checks import DRIFT_CHECKS
from batch_assets.fraud.landing import digest
from batch_assets.fraud.maintenance import tidy
from batch_assets.fraud.pipeline import Pipeline, last_closed_day
from batch_assets.fraud.rescoring import days_to_rescore, outdated_by_model
from batch_assets.fraud.run_requests import contiguous, due, newest_first, range_tags
from batch_assets.fraud.scorer import MODEL
from batch_assets.fraud.training_data import labelled_days
from batch_assets.running import bury_dead_runs
from batch_assets.settings import load_settings
from batch_assets.storage.resources import ModelStoreResource, WarehouseResource
from batch_assets.storage.vectors.resource import LanceDBResource

RAW_ASSETS = ("raw_exchange_rates", "raw_transactions", "raw_fraud_labels")
KEEPS_TABLES = ("freshness", "maintenance")
SCORED_ASSETS = (
    "fraud_predictions",
    "transaction_embeddings",
    "inference_ledger",
    "daily_risk_report",
    "prediction_quality",
    "feature_drift",
    "realtime_reconciliation",
)
DAYS_A_RESCORING_RUN = 30
GOING_ON = "a run that may change the answer is going on"
UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

_partitioned = (
    dg.AssetSelection.all() - dg.AssetSelection.assets(MODEL)
) | dg.AssetSelection.checks(*BLOCKING_CHECKS)
_late_checks = dg.AssetSelection.checks(*NEWEST_DAY_CHECKS)
_drift_checks = dg.AssetSelection.checks(*DRIFT_CHECKS)

daily_job = dg.define_asset_job(
    "daily",
    _partitioned - _late_checks,
    description="All assets of some days, from files to predictions and the report.",
)
ingest_job = dg.define_asset_job(
    "ingest",
    dg.AssetSelection.assets(*RAW_ASSETS) - _late_checks,
    description="The raw tables of some days of arrival.",
)
features_job = dg.define_asset_job(
    "features",
    _partitioned
    - _late_checks
    - dg.AssetSelection.assets(*SCORED_ASSETS)
    - dg.AssetSelection.checks_for_assets(*SCORED_ASSETS)
    - _drift_checks,
    description="From files to features: what a first model is trained on.",
)
scoring_job = dg.define_asset_job(
    "scoring",
    (dg.AssetSelection.assets(*SCORED_ASSETS) | _drift_checks) - _late_checks,
    description="Predictions, embeddings and the report, from features that are there.",
)
training_job = dg.define_asset_job(
    "training",
    dg.AssetSelection.assets(MODEL),
    description="Train a model; it goes live if it is better than the one that is.",
)
freshness_job = dg.define_asset_job(
    "freshness", _late_checks, description="Is the newest closed day there, of every table?"
)


@dg.op
def tidy_stores(
    context: dg.OpExecutionContext,
    warehouse: WarehouseResource,
    vectors: LanceDBResource,
    models: ModelStoreResource,
) -> None:
    """Merge small files, bring indexes up to date, and drop versions that nobody reads any more."""
    with pipeline_of(warehouse, vectors, models) as pipeline:
        for name, value in tidy(pipeline).items():
            context.log.info("%s: %s", name, value)


@dg.job(description="Compaction, indexes, old versions of tables, vectors and models.")
def maintenance() -> None:
    tidy_stores()


def a_run_is_going_on(instance: dg.DagsterInstance) -> bool:
    """Whether a run is queued or started that may change what there is to do."""
    bury_dead_runs(instance)
    unfinished = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
    return any(run.job_name not in KEEPS_TABLES for run in unfinished)


def missed_days(pipeline: Pipeline, until: date) -> list[date]:
    """Closed days up to ``until`` that were never built, or are not what they are to be.

    Days scored by another version count as far as ``rescore_days`` goes, should model_promoted
    be off, or its runs have failed.
    """
    settings = pipeline.settings
    first = max(settings.start_date, until - timedelta(days=settings.catch_up_days - 1))
    days = [first + timedelta(days=n) for n in range((until - first).days + 1)]
    news = {day for arrivals in pipeline.news().values() for day in arrivals}
    stale = pipeline.stale_days(days)
    left = set(outdated_by_model(pipeline, stale)) - set(days_to_rescore(pipeline))
    return sorted((set(stale) - left) | (news & set(days)))


@dg.schedule(
    name="nightly",
    job=daily_job,
    cron_schedule=f"0 {load_settings().schedule_hour} * * *",
    execution_timezone=load_settings().schedule_time_zone,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Off-peak: yesterday, and every day before it that was missed.",
)
def nightly(
    context: dg.ScheduleEvaluationContext,
    warehouse: WarehouseResource,
    vectors: LanceDBResource,
    models: ModelStoreResource,
) -> Any:
    """One run a gap; nothing while a run is going on, of which the next night sees what it left."""
    if a_run_is_going_on(context.instance):
        return dg.SkipReason(GOING_ON)
    until = context.scheduled_execution_time.astimezone(UTC).date() - timedelta(days=1)
    with pipeline_of(warehouse, vectors, models) as pipeline:
        missed = missed_days(pipeline, until)
    if not missed:
        return dg.SkipReason(f"every day up to {until} is up to date")
    return [
        dg.RunRequest(run_key=f"{until}:{first}:{last}", tags=range_tags(first, last))
        for first, last in contiguous(missed)
    ]


@dg.schedule(
    name="daily_freshness",
    job=freshness_job,
    cron_schedule=f"0 {(load_settings().schedule_hour + 4) % 24} * * *",
    execution_timezone=load_settings().schedule_time_zone,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Four hours after the nightly run: is the newest closed day there?",
)
def daily_freshness() -> dg.RunRequest:
    """Runs the checks of the newest closed day."""
    return dg.RunRequest()


@dg.schedule(
    name="weekly_training",
    job=training_job,
    cron_schedule=(
        f"0 {(load_settings().schedule_hour + 1) % 24} * * {load_settings().training_weekday}"
    ),
    execution_timezone=load_settings().schedule_time_zone,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="An hour after the nightly run: a model of the newest days with labels.",
)
def weekly_training(warehouse: WarehouseResource) -> Any:
    """Trains a candidate, once there is something to learn from."""
    with pipeline_of(warehouse) as pipeline:
        if not labelled_days(pipeline, pipeline.state()):
            return dg.SkipReason("there is no day yet with features and known labels")
    return dg.RunRequest()


@dg.schedule(
    name="weekly_maintenance",
    job=maintenance,
    cron_schedule=f"30 {load_settings().schedule_hour} * * 0",
    execution_timezone=load_settings().schedule_time_zone,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="On Sundays, half an hour after the nightly run: small files, indexes, and old "
    "versions of tables, vectors and models.",
)
def weekly_maintenance() -> dg.RunRequest:
    """Keeps the stores small and quick."""
    return dg.RunRequest()


@dg.sensor(
    name="late_data",
    jobs=[ingest_job, daily_job],
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Notices new and changed files, and asks for the days that they touch and those "
    "whose features look back on them. Days that only a new model outdates are model_promoted's.",
)
def late_data(
    context: dg.SensorEvaluationContext,
    warehouse: WarehouseResource,
    vectors: LanceDBResource,
    models: ModelStoreResource,
) -> Any:
    """Files first become raw rows; the days that those touch are asked for at the next look."""
    if a_run_is_going_on(context.instance):
        return dg.SkipReason(GOING_ON)
    with pipeline_of(warehouse, vectors, models) as pipeline:
        news = [(look.key(file), file.arrived) for look in pipeline.looks() for file in look.news()]
        if news:
            keys = sorted(key for key, _ in news)
            return due(context.instance, _requests(ingest_job.name, [d for _, d in news], keys))
        days = [d for d in pipeline.days_with_data() if d <= last_closed_day()]
        stale = pipeline.stale_days(days)
        others = set(outdated_by_model(pipeline, stale))
        stale = [day for day in stale if day not in others]
        if not stale:
            return dg.SkipReason("no new file, and every day is up to date, but for the model")
        requests = _requests(daily_job.name, stale, pipeline.wanted_keys(stale))
        return due(context.instance, requests)


@dg.sensor(
    name="model_promoted",
    jobs=[scoring_job],
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Notices that another version is live, and asks for the newest days that the one "
    "before has scored to be scored again.",
)
def model_promoted(
    context: dg.SensorEvaluationContext,
    warehouse: WarehouseResource,
    vectors: LanceDBResource,
    models: ModelStoreResource,
) -> Any:
    """The newest days first, in runs of a month at most."""
    if a_run_is_going_on(context.instance):
        return dg.SkipReason(GOING_ON)
    with pipeline_of(warehouse, vectors, models) as pipeline:
        days = days_to_rescore(pipeline)
        if not days:
            return dg.SkipReason("no day of the newest ones was scored by another version")
        promotion = pipeline.models.promotions(MODEL)[-1]
    requests = [
        dg.RunRequest(
            run_key=f"{scoring_job.name}:{promotion.version}:{promotion.number}:{first}:{last}",
            tags=range_tags(first, last) | {"dagster/priority": str(-number)},
        )
        for number, (first, last) in enumerate(newest_first(days, DAYS_A_RESCORING_RUN))
    ]
    return due(context.instance, requests)


def _requests(job: str, days: Sequence[date], why: Sequence[str]) -> list[dg.RunRequest]:
    """A run a gapless range, under a key that is the same as long as the reason is."""
    reason = digest(*why)[:16]
    return [
        dg.RunRequest(
            run_key=f"{job}:{first}:{last}:{reason}", job_name=job, tags=range_tags(first, last)
        )
        for first, last in contiguous(days)
    ]
