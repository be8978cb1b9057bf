"""Scores transactions that no batch has seen, by the batch's own statements and model.

What the batch knows of the days that features look back on is held in memory, a table a day that
is scored, and read again when the batch publishes one of these days. Rows that were scored here and
that no batch has yet count as known, too.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from batch_assets.fraud import tables
from batch_assets.fraud.embeddings import EMBEDDING_SIZE, PASSED_THROUGH
from batch_assets.fraud.features import LOOK_BACK_DAYS
from batch_assets.fraud.own_features import columns_of_new
from batch_assets.fraud.pipeline import NoLiveModelError
from batch_assets.fraud.realtime_cleaning import Cleaning
from batch_assets.fraud.realtime_known import (
    SCHEMAS,
    KnownDay,
    connected,
    known_ids,
    known_key,
    read_known_day,
)
from batch_assets.fraud.realtime_look import Look, Looks
from batch_assets.fraud.realtime_pending import Pending, Row
from batch_assets.fraud.realtime_rates import rates_of
from batch_assets.fraud.serving_pipeline import serving_pipeline
from batch_assets.fraud.sql import sql_text
from batch_assets.serving.workload import RowsRefused
from batch_assets.settings import Settings, load_settings
from batch_assets.storage.standing_query import StandingQuery

if TYPE_CHECKING:
    from batch_assets.inference.scoring import Scorer

GIVEN_UP_DAYS = 30
"""What no batch has so many days later is kept no longer."""
DAYS_HELD = 4
"""Days whose transactions can be scored without reading first; each holds what it looks back on."""


def _today() -> date:
    return datetime.now(UTC).date()


class FraudRealtime:
    """See :class:`batch_assets.serving.workload.RealtimeModel`.

    Args:
        settings: of the data home.
        today: the day on which rows arrive.
    """

    def __init__(
        self, settings: Settings | None = None, today: Callable[[], date] = _today
    ) -> None:
        settings = settings or load_settings()
        self._pipeline = serving_pipeline(settings)
        self._today = today
        self._cleaning = Cleaning(settings, self._pipeline.feeds, self._rates, today)
        self._pending = Pending()
        self._scored: dict[str, Row] = {}
        self._days: OrderedDict[date, KnownDay] = OrderedDict()
        self._features: OrderedDict[date, StandingQuery] = OrderedDict()
        self._rates_of: dict[date, pa.Table] = {}
        self._compared = -1
        self._looks = Looks(self._pipeline)

    def refresh(self) -> str:
        """Take up what was found since the last call, and look again; the first call waits.

        Raises:
            NoLiveModelError: nothing can be scored yet.
        """
        days = {day: self._days.get(day) for day in [self._today(), *self._days]}
        found = self._looks.next(days, self._pending.by_day())
        if found is not None:
            self._take_up(found)
        return self._look.version

    @property
    def known_versions(self) -> tuple[int, ...]:
        """Versions of the tables ``WATCHED`` that are known; none before the first look."""
        return self._looks.current.versions if self._looks.current else ()

    @property
    def _look(self) -> Look:
        if self._looks.current is None:
            raise NoLiveModelError("the model is not loaded yet")
        return self._looks.current

    def score(self, rows: list[Any]) -> pa.Table:
        """See :meth:`batch_assets.serving.workload.RealtimeModel.score`."""
        look = self._look
        clean, refused = self._cleaning.run(rows)
        if refused:
            raise RowsRefused(refused)
        features = self._features_of(clean)
        for name, values in columns_of_new(look.state, clean, look.scorer.features).items():
            features = features.append_column(name, values)
        scored = _predictions(features, look.scorer, look.version)
        self._scored = {row["transaction_id"]: row for row in _as_known(clean)}
        return scored

    def remember(self, rows: list[Any]) -> None:
        """See :meth:`batch_assets.serving.workload.RealtimeModel.remember`."""
        new = [row for row in rows if row.transaction_id not in self._scored]
        known = [self._scored[r.transaction_id] for r in rows if r.transaction_id in self._scored]
        if new:
            clean, _ = self._cleaning.run(new)  # what is refused by now counts no more
            known += _as_known(clean) if clean.num_rows else []
        by_day: dict[date, list[str]] = {}
        for row in known:
            by_day.setdefault(row["day"], []).append(row["transaction_id"])
        in_batch = self._in_batch(by_day)
        self._pending.add(row for row in known if row["transaction_id"] not in in_batch)

    def settled(self, days: Mapping[date, Collection[str]]) -> set[str]:
        """See :meth:`batch_assets.serving.workload.RealtimeModel.settled`."""
        snapshot = self._pipeline.warehouse.snapshot(tables.REALTIME_RECONCILIATION)
        if snapshot.version == self._compared:
            return set()
        with connected() as connection:
            snapshot.register(connection, snapshot.on(list(days)))
            given_up = self._today() - timedelta(days=GIVEN_UP_DAYS)
            found = connection.sql(sql_text("realtime_settled"), params={"given_up": given_up})
            keys = {key for (key,) in found.fetchall()}
        self._compared = snapshot.version
        return keys & {key for keys_of_day in days.values() for key in keys_of_day}

    def close(self) -> None:
        """End the threads."""
        self._looks.close()
        self._cleaning.close()
        for query in self._features.values():
            query.close()

    def _take_up(self, found: Look) -> None:
        for day in [*self._days]:  # read meanwhile
            if self._days[day].key != known_key(found.state, day):
                del self._days[day]
        self._days.update(found.days)
        self._rates_of.clear()
        late = {  # scored meanwhile
            day: [one for one in ids if one not in found.asked]
            for day, ids in self._pending.by_day().items()
        }
        self._pending.drop(found.in_batch | self._in_batch(late))
        oldest = self._today() - timedelta(days=GIVEN_UP_DAYS + LOOK_BACK_DAYS)
        for day, ids in self._pending.by_day().items():
            if day < oldest:
                self._pending.drop(ids)
        self._bound()

    def _known(self, day: date) -> KnownDay:
        if day not in self._days:
            self._days[day] = read_known_day(self._look.state, day)
        self._days.move_to_end(day)
        return self._days[day]

    def _bound(self) -> None:
        while len(self._days) > DAYS_HELD:
            self._days.popitem(last=False)
        while len(self._features) > DAYS_HELD:
            _, query = self._features.popitem(last=False)
            query.close()

    def _in_batch(self, days: Mapping[date, Sequence[str]]) -> set[str]:
        found: set[str] = set()
        for day, ids in days.items():
            if day in self._days:
                found.update(one for one in ids if self._days[day].holds(one))
            else:
                found |= known_ids(self._look.state, {day: ids})
        return found

    def _rates(self, days: Sequence[date]) -> pa.Table:
        for day in days:
            if day not in self._rates_of:
                self._rates_of[day] = rates_of(self._look.state, day)
        return pa.concat_tables([self._rates_of[day] for day in days])

    def _features_of(self, clean: pa.Table) -> pa.Table:
        """Rows of ``transaction_features`` of clean rows, in their order."""
        found: list[pa.Table] = []
        counted: set[str] = set()
        try:
            for day in sorted(set(clean["day"].to_pylist())):
                of_day = clean.filter(pc.equal(clean["day"], pa.scalar(day)))
                rows = self._statement(day).run(self._inputs(day, of_day))
                found.append(
                    rows.filter(pc.is_in(rows["transaction_id"], of_day["transaction_id"]))
                )
                known = self._not_held(day, _as_known(of_day))
                self._pending.add(known)  # for the days that follow
                counted |= {row["transaction_id"] for row in known}
        finally:
            self._pending.drop(counted)
        self._bound()
        rows = pa.concat_tables(found)
        return rows.take(pc.index_in(clean["transaction_id"], rows["transaction_id"]))

    def _not_held(self, day: date, rows: list[Row]) -> list[Row]:
        """Rows that are not known, of the batch nor of those scored before."""
        in_batch = self._in_batch({day: [row["transaction_id"] for row in rows]})
        return [
            row
            for row in rows
            if row["transaction_id"] not in in_batch and row["transaction_id"] not in self._pending
        ]

    def _statement(self, day: date) -> StandingQuery:
        if day not in self._features:
            parameters = {"first_day": day, "last_day": day}
            self._features[day] = StandingQuery(
                sql_text("transaction_features"), parameters, SCHEMAS
            )
        self._features.move_to_end(day)
        return self._features[day]

    def _inputs(self, day: date, new: pa.Table) -> dict[str, pa.Table]:
        ids, customers, terminals = (
            set(new[name].to_pylist()) for name in ("transaction_id", "customer_id", "terminal_id")
        )
        known = self._known(day).about(ids, customers, terminals)
        spenders = known["terminal_frauds"]["customer_id"].to_pylist()
        pending = self._pending.about(day, ids, customers, terminals, spenders)
        schema = SCHEMAS["clean_transactions"]
        parts = [known, pending, {"clean_transactions": new.select(schema.names).cast(schema)}]
        return {
            name: pa.concat_tables([part[name] for part in parts if name in part])
            for name in SCHEMAS
        }


def _predictions(features: pa.Table, scorer: "Scorer", version: str) -> pa.Table:
    """Score rows as a chunk of a batch is."""
    from batch_assets.inference.batches import feature_matrix

    matrix = feature_matrix(features.combine_chunks().to_batches(), scorer.features)
    scores, vectors = scorer.score_matrix(matrix)
    moment = datetime.now(UTC).replace(tzinfo=None)
    columns = {
        **{name: features[name] for name in (*PASSED_THROUGH, "day")},
        "score": pa.array(scores, pa.float32()),
        "model_version": pa.repeat(pa.scalar(version), len(scores)),
        "scored_at": pa.repeat(pa.scalar(moment, pa.timestamp("us")), len(scores)),
    }
    schema = tables.FRAUD_PREDICTIONS.bare_schema()
    table = pa.table([columns[name] for name in schema.names], schema=schema)
    flat = pa.array(vectors.reshape(-1), pa.float32())
    return table.append_column("vector", pa.FixedSizeListArray.from_arrays(flat, EMBEDDING_SIZE))


def _as_known(clean: pa.Table) -> list[Row]:
    return clean.select(SCHEMAS["clean_transactions"].names).to_pylist()
