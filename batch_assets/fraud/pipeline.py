"""The fraud workload over one data home, without Dagster: ingest, build, train, score."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from batch_assets import progress
from batch_assets.errors import BatchAssetsError
from batch_assets.fraud import tables
from batch_assets.fraud.build import Builder, Built, produce_sql
from batch_assets.fraud.feeds import Feeds, Kind, load_feeds
from batch_assets.fraud.ingest import RAW, Landing, ingest, look
from batch_assets.fraud.keys import PREDICTIONS, STEPS, State, Step, days_between
from batch_assets.fraud.repeated import check_repeated_keys
from batch_assets.fraud.scoring import EMBEDDINGS, produce_predictions
from batch_assets.settings import Settings
from batch_assets.storage.models import ModelStore
from batch_assets.storage.vectors import VectorStore
from batch_assets.storage.warehouse import Warehouse

if TYPE_CHECKING:
    from batch_assets.inference.scoring import Scorer


class NoLiveModelError(BatchAssetsError):
    """Nothing can be scored before a model was trained."""


MODEL = "fraud_model"
KINDS: tuple[Kind, ...] = ("rates", "transactions", "labels")
Progress = Callable[[str, date], None]


def quiet(what: str, day: date) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True)
class Pipeline:
    """Everything that works on one data home.

    Args:
        device: where to score, see :func:`batch_assets.inference.devices.resolve_device`.
        progress: called with a table's name and a day when the day is done.
    """

    settings: Settings
    warehouse: Warehouse
    vectors: VectorStore
    models: ModelStore
    device: str = "auto"
    progress: Progress = quiet

    @cached_property
    def feeds(self) -> Feeds:
        return load_feeds(self.settings.home)

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
            scoring="fp32",
            vector_keys=self._vector_keys,
        )

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
        scoring = step is PREDICTIONS
        if scoring:
            self.vectors.ensure(EMBEDDINGS)
        produce = produce_predictions(self.scorer, self.vectors) if scoring else produce_sql(step)
        builder = Builder(
            step,
            self.warehouse,
            self.state,
            produce,
            lambda day: self.progress(step.name, day),
            **({"rows_a_chunk": 1} if scoring else {}),
        )
        built = Built() if built is None else built
        started = time.perf_counter()
        builder.run(days, built)
        if scoring and built.made:
            rows = self.warehouse.snapshot(tables.FRAUD_PREDICTIONS).rows(built.made)
            progress.measured("scored", rows, time.perf_counter() - started)
        return built

    def update(self, days: Sequence[date]) -> None:
        """Bring everything that can be built of some days up to date, from files to the report."""
        for kind in KINDS:
            self.ingest(kind, days)
        for step in _steps(self.state()):
            self.build(step, days)

    def scorer(self) -> "Scorer":
        """The live model on its device, loaded once."""
        from batch_assets.inference.network import TabularNetwork
        from batch_assets.inference.scoring import Scorer
        from batch_assets.inference.tuning import Tuning

        version = self.models.live(MODEL)
        if version is None:
            raise NoLiveModelError(
                "no fraud model is live yet: materialize fraud_model, or use `batch-assets run`, "
                "which trains one"
            )
        if version not in self._scorers:
            model = self.models.load(version, MODEL)
            network = TabularNetwork.from_tensors(model.tensors)
            self._scorers.clear()
            tuning = Tuning(self.settings.home / ".tuning" / "batch_sizes.json", version)
            self._scorers[version] = Scorer(
                network, model.features, device=self.device, tuning=tuning
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
        return sorted({d for step in _steps(state) for d in state.stale(step, days, settled=True)})

    def wanted_keys(self, days: Sequence[date]) -> list[str]:
        """Keys that all tables of these days are to have."""
        state = self.state()
        state.plan(days)
        return [state.key(step, day, settled=True) for step in _steps(state) for day in days]


def _steps(state: State) -> list[Step]:
    """The steps that can be done: without a model none is scored."""
    return [s for s in STEPS.values() if state.model_version or s.name not in _NEEDS_MODEL]


_NEEDS_MODEL = ("fraud_predictions", "daily_risk_report")


def last_closed_day() -> date:
    """Yesterday, UTC."""
    return datetime.now(UTC).date() - timedelta(days=1)
