"""What each day of each table is to be made from, as a digest.

A day is up to date when the key that its table records equals the key
computed here. Keys are digests of digests, back to the content of the landing
files, so a late row changes the keys of its own day and of the days that look
back on it, and of no other.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from datetime import date, timedelta
from functools import cache, cached_property
from types import MappingProxyType

from batch_assets.fraud import tables
from batch_assets.fraud.features import FEATURES as FEATURE_COLUMNS
from batch_assets.fraud.feeds import Feeds
from batch_assets.fraud.landing import digest
from batch_assets.fraud.own_files import JOINED, OWN
from batch_assets.fraud.steps import (
    CLEAN,
    DRIFT,
    FEATURES,
    LABELS,
    PREDICTIONS,
    QUALITY,
    RATES,
    REPORT,
    STEPS,
    TOTALS,
    Step,
)
from batch_assets.settings import Settings
from batch_assets.storage.tables import Table
from batch_assets.storage.warehouse import DataFile, Snapshot, Warehouse

__all__ = [
    "CLEAN",
    "DRIFT",
    "FEATURES",
    "LABELS",
    "PREDICTIONS",
    "QUALITY",
    "RATES",
    "REPORT",
    "STEPS",
    "TOTALS",
    "State",
    "Step",
    "days_between",
    "steps_of",
]
MISSING = "missing"
NO_DAY = date(1900, 1, 1)
"""Before any partition."""


def _made_from(step: Step, name: str) -> bool:
    """Whether a step of this name goes into the step, or is it."""
    return step.name == name or any(_made_from(STEPS[above], name) for above in step.upstream)


class State:
    """One consistent look at all tables, and the keys that follow from it.

    Snapshots are taken when first asked for and kept, so ask for what is to be replaced before
    asking for what it is made from: then a result is never older than what it replaces.

    Args:
        model_version: the live model, None if there is none yet.
        scoring: what else changes a bit of the scores, e.g. the precision.
        vector_keys: looks up the key and the rows that the vector store holds of each day.
        reference_key: looks up which values drift from a model version is measured against.
        own: steps of features of one's own, by name.
        model_features: looks up the inputs of a model version.
    """

    def __init__(
        self,
        warehouse: Warehouse,
        feeds: Feeds,
        settings: Settings,
        model_version: str | None = None,
        scoring: str = "",
        vector_keys: Callable[[], dict[date, tuple[str | None, int]]] = dict,
        reference_key: Callable[[str], str] = str,
        own: Mapping[str, Step] = MappingProxyType({}),
        model_features: Callable[[str], Sequence[str]] = lambda version: (),
    ) -> None:
        self.warehouse = warehouse
        self.feeds = feeds
        self.settings = settings
        self.model_version = model_version
        self.scoring = scoring
        self._look_up_vectors = vector_keys
        self._reference_key = cache(reference_key)
        self.own = own
        self.model_features = cache(model_features)
        self._snapshots: dict[str, Snapshot] = {}
        self._keys: dict[tuple[str, date, bool], str] = {}
        self._planned: set[date] = set()

    def plan(self, days: Iterable[date]) -> None:
        """Days that are to be built, beside those that were built before.

        Days that are neither count as missing, now and later: what looks back on them is not
        outdated because they could be built, it becomes so when they are.
        """
        if not self._planned.issuperset(days := set(days)):
            self._planned |= days
            self._keys = {named: key for named, key in self._keys.items() if not named[2]}

    def snapshot(self, table: Table) -> Snapshot:
        """The version of a table that this look sees."""
        if table.name not in self._snapshots:
            self._snapshots[table.name] = self.warehouse.snapshot(table)
        return self._snapshots[table.name]

    @cached_property
    def raw_transactions(self) -> dict[date, list[DataFile]]:
        """Raw files by the day that their records count for."""
        return by_happened_on(self.snapshot(tables.RAW_TRANSACTIONS))

    @cached_property
    def raw_labels(self) -> dict[date, list[DataFile]]:
        return by_happened_on(self.snapshot(tables.RAW_LABELS))

    @cached_property
    def raw_rates(self) -> dict[date, list[DataFile]]:
        return by_happened_on(self.snapshot(tables.RAW_RATES))

    @cached_property
    def repeated_keys(self) -> dict[str, set[date]]:
        """Transaction keys that stand on several days -> these days."""
        snapshot = self.snapshot(tables.REPEATED_KEYS)
        with self.warehouse.connect() as connection:
            files = [f for f in snapshot.files if f.rows]
            rows = (
                snapshot.relation(connection, files)
                .select("transaction_id, happened_on")
                .fetchall()
            )
        days: dict[str, set[date]] = defaultdict(set)
        for transaction_id, happened_on in rows:
            days[transaction_id].add(happened_on)
        return dict(days)

    @cached_property
    def _repeated_on(self) -> dict[date, list[str]]:
        by_day: dict[date, list[str]] = defaultdict(list)
        for transaction_id, days in sorted(self.repeated_keys.items()):
            for day in days:
                by_day[day].append(transaction_id)
        return dict(by_day)

    def repeated_on(self, days: Iterable[date]) -> tuple[list[str], set[date]]:
        """Keys on these days that stand on other days too, and those other days."""
        wanted = set(days)
        ids = sorted({i for day in wanted for i in self._repeated_on.get(day, [])})
        return ids, {day for i in ids for day in self.repeated_keys[i]} - wanted

    @cached_property
    def labels_known_until(self) -> date:
        """The newest day whose labels have had time to arrive; files tell the time, not a clock.

        That is ``label_delay_days`` before the newest day on which a file with labels arrived.
        """
        told_by = [tables.RAW_LABELS] if self.feeds.of_kind("labels") else []
        if not told_by or any(f.columns.label for f in self.feeds.of_kind("transactions")):
            told_by.append(tables.RAW_TRANSACTIONS)
        newest = min(max(self.snapshot(t).by_day, default=NO_DAY) for t in told_by)
        return newest - timedelta(days=self.feeds.label_delay_days)

    def under(self, model_version: str) -> "State":
        """The same look, as if another version were live."""
        other = copy(self)
        other.model_version = model_version
        other._planned = set(self._planned)
        kept = {name for name, step in STEPS.items() if not _made_from(step, PREDICTIONS.name)}
        kept |= set(self.own)
        other._keys = {named: key for named, key in self._keys.items() if named[0] in kept}
        return other

    def recorded(self, step: Step, day: date) -> str:
        """Key under which the step's tables hold the day; tables that disagree do not hold it."""
        keys = {self.snapshot(table).keys.get(day, MISSING) for table in step.tables}
        if step is PREDICTIONS and (rows := self.snapshot(tables.FRAUD_PREDICTIONS).rows([day])):
            key, held = self.vector_keys.get(day, (None, 0))
            keys.add(key if key and held == rows else MISSING)
        return keys.pop() if len(keys) == 1 else MISSING

    @cached_property
    def vector_keys(self) -> dict[date, tuple[str | None, int]]:
        """Day -> key and rows in the vector store; looked up after the tables, which come last."""
        return self._look_up_vectors()

    def key(self, step: Step, day: date, *, settled: bool = False) -> str:
        """What the day is to be made from.

        Args:
            settled: False: from upstream days as they are now. True: as they will be when all
                upstream days that were ever built, or are planned, are up to date.
        """
        known = self._keys.get((step.name, day, settled))
        if known is None:
            known = self._compute(step, day, settled)
            self._keys[step.name, day, settled] = known
        return known

    def _compute(self, step: Step, day: date, settled: bool) -> str:
        parts = [step.name, step.version, *self._own_parts(step, day)]
        for name in (*step.upstream, *self._own_upstream(step)):
            look_back = 0 if name in step.same_day else step.look_back
            above = STEPS.get(name) or self.own.get(name)
            for upstream_day in days_between(day - timedelta(days=look_back), day):
                parts.append(self._upstream_key(above, upstream_day, settled) if above else MISSING)
        return digest(*parts)[:16]

    def _own_upstream(self, step: Step) -> list[str]:
        """The features of one's own that the live model reads, by step, whether there or not."""
        if step is not PREDICTIONS or not self.model_version:
            return []
        names = (f.split(JOINED)[0] for f in self.model_features(self.model_version) if JOINED in f)
        return sorted({f"{OWN}{name}" for name in names})

    @property
    def feature_names(self) -> list[str]:
        """See :func:`feature_names`."""
        return feature_names(self.own)

    def _upstream_key(self, step: Step, day: date, settled: bool) -> str:
        recorded = self.recorded(step, day)
        if settled and (recorded != MISSING or day in self._planned):
            return self.key(step, day, settled=True)
        return recorded

    def _own_parts(self, step: Step, day: date) -> list[str]:
        settings = self.settings
        if step is RATES:
            past = days_between(day - timedelta(days=settings.rate_max_age_days), day)
            files = [f for d in past for f in self.raw_rates.get(d, [])]
            return [str(settings.rate_max_age_days), *file_keys(files)]
        if step is CLEAN:
            ids, others = self.repeated_on([day])
            files = [f for d in {day, *others} for f in self.raw_transactions.get(d, [])]
            return [settings.currency, *ids, *file_keys(files)]
        if step is LABELS:
            return file_keys(self.raw_labels.get(day, []))
        if step is PREDICTIONS:
            return [self.model_version or MISSING, self.scoring]
        if step is QUALITY:
            return [str(day <= self.labels_known_until)]
        if step is DRIFT:
            return [self._reference_key(self.model_version or MISSING)]
        return []

    def stale(self, step: Step, days: Iterable[date], *, settled: bool = False) -> list[date]:
        """The days whose recorded key is not what it is to be.

        Args:
            settled: see :meth:`key`; these days are planned then.
        """
        days = list(days)
        if settled:
            self.plan(days)
        return [d for d in days if self.recorded(step, d) != self.key(step, d, settled=settled)]


def steps_of(state: State) -> list[Step]:
    """The steps that can be done: without a model none is scored."""
    ours = [s for s in STEPS.values() if s.name not in _NEEDS_MODEL]
    scored = [s for s in STEPS.values() if s.name in _NEEDS_MODEL and state.model_version]
    return [*ours, *state.own.values(), *scored]


def feature_names(own: Mapping[str, Step]) -> list[str]:
    """All inputs that a model can have: of ours, then of files of one's own."""
    columns = [name for step in own.values() for name in step.tables[0].columns]
    ours = [feature.name for feature in FEATURE_COLUMNS]
    return [*ours, *(name for name in columns if JOINED in name)]


_NEEDS_MODEL = {step.name for step in (PREDICTIONS, REPORT, QUALITY, DRIFT)}


def by_happened_on(raw: Snapshot) -> dict[date, list[DataFile]]:
    """Files of a raw table by the day that their records count for."""
    days: dict[date, list[DataFile]] = defaultdict(list)
    for file in raw.files:
        days[file.partition["happened_on"]].append(file)
    return dict(days)


def file_keys(files: Iterable[DataFile]) -> list[str]:
    """Distinct keys of raw files: which content of which landing files, read in which way."""
    return sorted({file.key for file in files})


def days_between(first: date, last: date) -> list[date]:
    """All days from first to last, both included."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]
