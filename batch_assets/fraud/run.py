"""What ``batch-assets run`` does: a range of days, a first model if there is none, and repair."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Protocol

from filelock import FileLock

from batch_assets import progress
from batch_assets.errors import BatchAssetsError
from batch_assets.fraud.ingest import look
from batch_assets.fraud.keys import days_between
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.fraud.rescoring import outdated_by_model
from batch_assets.fraud.run_requests import contiguous
from batch_assets.fraud.scorer import MODEL
from batch_assets.fraud.training_data import bootstrap_days
from batch_assets.instance import run_job
from batch_assets.settings import Settings, load_settings
from batch_assets.storage.models import ModelStore
from batch_assets.storage.vectors import VectorStore
from batch_assets.storage.warehouse import Warehouse

if TYPE_CHECKING:
    from dagster import DagsterInstance

REPAIR_ROUNDS = 5


@dataclass
class RunSummary:
    """What was done."""

    first_day: date
    last_day: date
    run_ids: list[str] = field(default_factory=list)
    trained: str | None = None
    repaired: list[date] = field(default_factory=list)


def open_pipeline(settings: Settings | None = None) -> Pipeline:
    """The workload over the current data home."""
    settings = settings or load_settings()
    return Pipeline(
        settings,
        Warehouse(str(settings.home / "warehouse"), settings.memory_limit, settings.threads),
        VectorStore(str(settings.home / "vectors")),
        ModelStore(settings.home / "models"),
        (settings.device.partition(",")[0],),
        progress.report,
    )


def checked_range(settings: Settings, first: date, last: date) -> tuple[date, date]:
    """The range, if it has partitions.

    Raises:
        BatchAssetsError: it ends before it begins, or leaves the partitions.
    """
    today = datetime.now(UTC).date()
    if first > last:
        raise BatchAssetsError(f"the first day, {first}, comes after the last, {last}")
    if first < settings.start_date:
        raise BatchAssetsError(
            f"{first} is before the first partition, {settings.start_date}: set start_date in "
            f"{settings.home / 'settings.toml'} or BATCH_ASSETS_START_DATE"
        )
    if last > today:
        raise BatchAssetsError(f"{last} is in the future: the newest partition is {today}")
    return first, last


class Watcher(Protocol):
    """Is told how many days the next run has."""

    def expect(self, days: int) -> None: ...


def run_days(
    instance: "DagsterInstance", pipeline: Pipeline, first: date, last: date, watcher: Watcher
) -> RunSummary:
    """All assets of a range of days; afterwards no day that was ever built is outdated.

    Without a live model, one is trained first. Rows that arrive in the range but happened before
    it change days outside of it: those, and the days that look back on them, are built too.
    """
    first, last = checked_range(pipeline.settings, first, last)
    summary = RunSummary(first, last)
    job = "scoring" if ensure_model(instance, pipeline, summary, watcher) else "daily"
    watcher.expect((last - first).days + 1)
    summary.run_ids.append(run_job(job, instance, (first, last)))
    for _ in range(REPAIR_ROUNDS):
        outdated = outdated_days(pipeline, first, last)
        if not outdated:
            break
        summary.repaired += outdated
        for days in contiguous(outdated):
            watcher.expect((days[1] - days[0]).days + 1)
            summary.run_ids.append(run_job("daily", instance, days))
    return summary


def outdated_days(pipeline: Pipeline, first: date, last: date) -> list[date]:
    """Days that were built before, or lie in the range, and are not what they are to be.

    Days before or after it of which only the model has changed are left to the sensor.
    """
    from batch_assets.fraud import tables

    built = set(pipeline.warehouse.snapshot(tables.FRAUD_PREDICTIONS).by_day)
    wanted = set(days_between(first, last))
    others = sorted(built - wanted)
    stale = pipeline.stale_days(sorted(built | wanted))
    return sorted(set(stale) - set(outdated_by_model(pipeline, others)))


def ensure_model(
    instance: "DagsterInstance", pipeline: Pipeline, summary: RunSummary, watcher: Watcher
) -> bool:
    """Train a first model where none is live; of several processes one does it, the others wait.

    Returns:
        Whether the features of the whole range were built on the way.
    """
    if pipeline.models.live(MODEL):
        return False
    lock = pipeline.settings.home / "models" / ".first-model.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        if pipeline.models.live(MODEL):
            return False
        landing = look(pipeline.warehouse, pipeline.feeds, pipeline.settings, "transactions")
        train_on, build = bootstrap_days(pipeline, [file.arrived for file in landing.files])
        covered = summary.first_day <= build[0] and build[-1] <= summary.last_day
        first, last = (summary.first_day, summary.last_day) if covered else (build[0], build[-1])
        watcher.expect((last - first).days + 1)
        summary.run_ids.append(run_job("features", instance, (first, last)))
        watcher.expect(0)
        config = {"from_day": str(train_on[0]), "to_day": str(train_on[-1])}
        summary.run_ids.append(run_job("training", instance, config={MODEL: config}))
    summary.trained = pipeline.models.live(MODEL)
    return covered


def ensure_features(instance: "DagsterInstance", pipeline: Pipeline, days: Sequence[date]) -> None:
    """Build what is missing of the features of some days, with the days that they look back on."""
    from batch_assets.fraud import tables
    from batch_assets.fraud.keys import CLEAN, FEATURES, LABELS, RATES, TOTALS

    start = pipeline.settings.start_date
    delay = pipeline.feeds.label_delay_days
    back = date.fromordinal(max(min(days).toordinal() - FEATURES.look_back, start.toordinal()))
    today = datetime.now(UTC).date()
    ahead = min(date.fromordinal(max(days).toordinal() + delay), today)
    wanted = days_between(back, ahead)
    news = {day for arrivals in pipeline.news().values() for day in arrivals}
    state = pipeline.state()
    held = state.snapshot(tables.TRANSACTION_FEATURES).by_day
    stale = [
        d
        for step in (RATES, CLEAN, LABELS, TOTALS, FEATURES, *pipeline.own.values())
        for d in state.stale(step, wanted, settled=True)
    ]
    if news & set(wanted) or stale or any(day not in held for day in days):
        run_job("features", instance, (back, ahead))
