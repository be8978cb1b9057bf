"""The fraud workload over one data home, without Dagster: ingest, build, train, score."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from batch_assets import progress
from batch_assets.errors import BatchAssetsError
from batch_assets.fraud import tables
from batch_assets.fraud.build import Builder, Built, Produce, produce_sql
from batch_assets.fraud.chunks import CacheOptions, ChunkWorker, ChunkWorkers
from batch_assets.fraud.drift import ensure_reference, measure_drift
from batch_assets.fraud.embeddings import EMBEDDINGS
from batch_assets.fraud.feeds import Feeds, Kind, load_feeds
from batch_assets.fraud.ingest import RAW, Landing, ingest, look
from batch_assets.fraud.keys import (
    DRIFT,
    PREDICTIONS,
    QUALITY,
    REPORT,
    State,
    Step,
    days_between,
    steps_of,
)
from batch_assets.fraud.own_features import OwnStep, own_steps, stage_own
from batch_assets.fraud.repeated import check_repeated_keys
from batch_assets.fraud.scorer import MODEL, load_scorer
from batch_assets.fraud.scoring import Scoring
from batch_assets.settings import Settings
from batch_assets.storage.models import ModelStore
from batch_assets.storage.tables import Table
from batch_assets.storage.vectors import VectorStore
from batch_assets.storage.warehouse import Warehouse

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Connection

    from batch_assets.inference.scoring import Scorer


class NoLiveModelError(BatchAssetsError):
    """Nothing can be scored before a model was trained."""


ROWS_AT_ONCE = 262_144
"""Days with together about as many rows are scored and published at once."""
ROWS_SPREAD = 20_000_000
"""The same for several devices, whose processes are started for it."""
KINDS: tuple[Kind, ...] = ("rates", "transactions", "labels")
Progress = Callable[[str, date], None]


def quiet(what: str, day: date) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True)
class Pipeline:
    """Everything that works on one data home.

    Args:
        devices: where to score, see :func:`batch_assets.inference.devices.resolve_device`;
            several are used at the same time, each by a process of its own.
        progress: called with a table's name and a day when the day is done.
        run_id: of the Dagster run that works, for the ledger.
    """

    settings: Settings
    warehouse: Warehouse
    vectors: VectorStore
    models: ModelStore
    devices: tuple[str, ...] = ("auto",)
    progress: Progress = quiet
    run_id: str = ""

    @cached_property
    def feeds(self) -> Feeds:
        return load_feeds(self.settings.home)

    @cached_property
    def own(self) -> Mapping[str, OwnStep]:
        """The steps of the SQL files of features of one's own that can be used, by name."""
        return own_steps(self.settings.home)

    @property
    def tables(self) -> list[Table]:
        """All tables of this home."""
        return [*tables.TABLES, *(step.table for step in self.own.values())]

    @cached_property
    def _scorers(self) -> "dict[str, Scorer]":
        return {}

    def state(self) -> State:
        """A new look at all tables."""
        return State(
            self.warehouse,
            self.feeds,
            self.settings,
            model_version=self.models.live(MODEL),
            scoring=self.settings.precision,
            vector_keys=self._vector_keys,
            reference_key=lambda version: self.models.reference_key(version, MODEL),
            own=self.own,
            model_features=self._model_features,
        )

    @cached_property
    def _model_features(self) -> Callable[[str], Sequence[str]]:
        return cache(lambda version: self.models.card(version, MODEL)["features"])

    def _vector_keys(self) -> dict[date, tuple[str | None, int]]:
        return {
            day: (held.version_key, held.rows)
            for day, held in self.vectors.days(EMBEDDINGS).items()
        }

    def ingest(self, kind: Kind, days: Sequence[date]) -> dict[date, list[dict[str, Any]]]:
        """Bring a raw table up to date; see :func:`batch_assets.fraud.ingest.ingest`."""
        name = RAW[kind].name
        done = ingest(
            self.warehouse, self.feeds, self.settings, kind, days, lambda d: self.progress(name, d)
        )
        if kind == "transactions":
            check_repeated_keys(self.warehouse, days)
        return done

    def build(self, step: Step, days: Sequence[date], built: Built | None = None) -> Built:
        """Build the days of a step that are not up to date."""
        built = Built() if built is None else built
        if step is PREDICTIONS:
            self._score(days, built)
        elif step is REPORT:
            self._builder(step, produce_sql(step, self._add_reasons)).run(days, built)
        elif step is DRIFT:
            ensure_reference(self.state(), self.models, self.settings.home)
            measure = partial(measure_drift, models=self.models)
            self._builder(step, produce_sql(step, measure)).run(days, built)
        elif step is QUALITY:
            measurable = {*days, *self._newly_measurable()}
            self._builder(step, produce_sql(step)).run(sorted(measurable), built)
        elif isinstance(step, OwnStep):
            self._builder(step, partial(stage_own, step)).run(days, built)
        else:
            self._builder(step, produce_sql(step)).run(days, built)
        return built

    def _newly_measurable(self) -> list[date]:
        """Days whose labels are known since files of later days came; all else of them is done."""
        state = self.state()
        return [
            day
            for day in state.snapshot(tables.PREDICTION_QUALITY).by_day
            if state.recorded(QUALITY, day)
            != state.key(QUALITY, day)
            == state.key(QUALITY, day, settled=True)
        ]

    def _add_reasons(self, connection: "Connection") -> None:
        from batch_assets.fraud.explain import Explainer, report_reasons

        report_reasons(
            Explainer(self.models, self.settings.home, self.settings.currency), connection
        )

    def _builder(self, step: Step, produce: Produce) -> Builder:
        return Builder(
            step, self.warehouse, self.state, produce, lambda day: self.progress(step.name, day)
        )

    def _score(self, days: Sequence[date], built: Built) -> None:
        from batch_assets.fraud import ledger

        self.vectors.ensure(EMBEDDINGS, self.settings.vector_type)
        several = len(self.devices) > 1
        scoring = Scoring(
            self.warehouse,
            self.vectors,
            self._salt,
            self.devices,
            self._workers() if several else self._worker,
            lambda entries: ledger.record(self.warehouse, self.settings.prices, entries),
            self.run_id,
        )
        builder = replace(
            self._builder(PREDICTIONS, scoring.produce),
            rows_a_chunk=ROWS_SPREAD if several else ROWS_AT_ONCE,
            holding=scoring.holding,
        )
        started = time.perf_counter()
        builder.run(days, built)
        scoring.finish_what_others_left(built.unchanged)
        if built.made:
            rows = self.warehouse.snapshot(tables.FRAUD_PREDICTIONS).rows(built.made)
            progress.measured("scored", rows, time.perf_counter() - started)

    def update(self, days: Sequence[date]) -> None:
        """Bring everything that can be built of some days up to date, from files to the report."""
        for kind in KINDS:
            self.ingest(kind, days)
        for step in steps_of(self.state()):
            self.build(step, days)

    def _salt(self, version: str | None, rows: pa.RecordBatch, expected: int) -> str:
        """Of a model; loaded anew if another process has changed how it is computed."""
        scorer = self.scorer(version)
        if not scorer.is_current():
            self._scorers.clear()
            scorer = self.scorer(version)
        scorer.prepare(rows, expected)
        return scorer.salt

    @property
    def cache_options(self) -> CacheOptions:
        """The embedding cache of this home, which all models share."""
        settings = self.settings
        folder = settings.home / ".cache" / "embeddings"
        return CacheOptions(folder, settings.embedding_cache, settings.embedding_cache_bytes)

    def cache_report(self) -> dict[str, Any]:
        """What the embedding cache cost and saved for the live model, and whether it pays."""
        from batch_assets.inference.cache import read_reports

        version = self.models.live(MODEL)
        reports = read_reports(self.cache_options.folder)
        return next((r for name, r in reports.items() if version and name.startswith(version)), {})

    def _worker(self, device: str) -> ChunkWorker:
        """Scores with the scorer of this process."""
        return ChunkWorker(self.scorer, self.vectors, self.cache_options)

    def _workers(self) -> ChunkWorkers:
        settings, vectors = self.settings, self.vectors.uri
        return ChunkWorkers(
            self.models,
            vectors,
            settings.home,
            settings.precision,
            settings.gpu_memory_share,
            self.cache_options,
        )

    def scorer(self, version: str | None = None) -> "Scorer":
        """A version of the model, by default the live one, on the first device; loaded once."""
        version = version or self.models.live(MODEL)
        if version is None:
            raise NoLiveModelError(
                "no fraud model is live yet: materialize fraud_model, or use `batch-assets run`, "
                "which trains one"
            )
        if version not in self._scorers:
            self._scorers.clear()
            self._scorers[version] = load_scorer(
                self.models, version, self.settings.home, self.devices[0], self.settings.precision
            )
        return self._scorers[version]

    def live_card(self) -> dict[str, Any] | None:
        """Card of the live model."""
        version = self.models.live(MODEL)
        return self.models.card(version, MODEL) if version else None

    def looks(self) -> list[Landing]:
        """What is new in the landing zone, a look for each kind of feed."""
        return [look(self.warehouse, self.feeds, self.settings, kind) for kind in KINDS]

    def news(self) -> dict[Kind, list[date]]:
        """Days of arrival with files that are new or changed."""
        return {look.kind: sorted({f.arrived for f in look.news()}) for look in self.looks()}

    def days_with_data(self, state: State | None = None) -> list[date]:
        """First to last day that any record of a transaction counts for, or that was ever built."""
        state = state or self.state()
        days = set(state.raw_transactions) | set(state.snapshot(tables.CLEAN_TRANSACTIONS).by_day)
        days = {d for d in days if d >= self.settings.start_date}
        return days_between(min(days), max(days)) if days else []

    def stale_days(self, days: Sequence[date]) -> list[date]:
        """Days on which any table is not what it is to be, given the raw tables and the model."""
        state = self.state()
        return sorted(
            {d for step in steps_of(state) for d in state.stale(step, days, settled=True)}
        )

    def wanted_keys(self, days: Sequence[date]) -> list[str]:
        """Keys that all tables of these days are to have."""
        state = self.state()
        state.plan(days)
        return [state.key(step, day, settled=True) for step in steps_of(state) for day in days]


def last_closed_day() -> date:
    """Yesterday, UTC."""
    return datetime.now(UTC).date() - timedelta(days=1)
