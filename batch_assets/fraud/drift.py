"""How far the values of a day are from those that the live model was trained on.

For each input of the model, for its score, and for whether customer and terminal are new, the
population stability index (PSI): the sum over bins of (p - q) ln(p / q), p the share of the day's
rows in a bin and q that of the training days' rows. Bins are the deciles of the training days, and
missing values are a bin of their own. Siddiqi, Credit Risk Scorecards (2006), reads less than 0.1
as no change and more than 0.25 as a major one.

As a Saturday is no Tuesday, a day is compared with the training days of the same weekday; and as a
count of 30 days is another thing when there are only three, with those before which all days were
there that the value looks back on.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from batch_assets.fraud import tables
from batch_assets.fraud.feature_rows import own_columns, register_features
from batch_assets.fraud.features import FEATURES, LOOK_BACK_DAYS
from batch_assets.fraud.keys import State, days_between
from batch_assets.fraud.scorer import MODEL, load_scorer
from batch_assets.fraud.sql import sql_text
from batch_assets.inference.batches import feature_matrix
from batch_assets.storage.models import ModelStore

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Connection


SCORE = "score"
NEW = ("new_customer", "new_terminal")
NEW_FOR_DAYS = 30
NOT_COMPARED = "not compared"
SAMPLE_ROWS = 50_000
LEAST_ROWS = 300
"""With fewer rows, chance alone takes the PSI of ten bins to 0.1 about once in a thousand days:
without drift it is (1/n + 1/m) times a chi-square with nine degrees of freedom, n and m the rows
compared (Yurdakul and Naranjo, Statistical properties of the population stability index, 2020)."""
DECILES = np.arange(1, 10) / 10
BATCH_ROWS = 65_536


@dataclass(frozen=True)
class Reference:
    """How values were spread on the training days.

    Args:
        starts: feature -> the first day with all the days before it that the feature looks back on.
        edges: feature -> upper edges of its bins, float32, ascending; values above the last are
            one more bin, missing values another.
        counts: feature -> rows of the training days from that day on, by weekday, Monday first,
            and bin, int64 [7, len(edges) + 2].
    """

    starts: dict[str, date]
    edges: dict[str, np.ndarray]
    counts: dict[str, np.ndarray]

    @classmethod
    def none(cls) -> "Reference":
        """Of a model of which nobody knows what it was trained on."""
        names = [*(feature.name for feature in FEATURES), *NEW, SCORE]
        no_edges = np.empty(0, np.float32)
        no_rows = np.zeros((7, 2), np.int64)
        return cls(
            dict.fromkeys(names, date.min),
            dict.fromkeys(names, no_edges),
            dict.fromkeys(names, no_rows),
        )

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Reference":
        """What ``as_json`` gave."""
        return cls(
            {name: date.fromisoformat(entry["start"]) for name, entry in content.items()},
            {name: np.array(entry["edges"], np.float32) for name, entry in content.items()},
            {name: np.array(entry["counts"], np.int64) for name, entry in content.items()},
        )

    def as_json(self) -> dict[str, Any]:
        """Lists and numbers, by feature."""
        return {
            name: {
                "start": str(self.starts[name]),
                "edges": edges.tolist(),
                "counts": self.counts[name].tolist(),
            }
            for name, edges in self.edges.items()
        }


def ensure_reference(state: State, models: ModelStore, home: Path) -> None:
    """Keep beside the live version how values were spread on its training days, if it is not yet.

    It is made once for a version, from a sample of ``SAMPLE_ROWS`` rows. Nothing happens while
    features of its training days are not there, or if its card does not name any.
    """
    version = state.model_version
    if version is None or models.reference_key(version, MODEL):
        return
    days = training_days(models.card(version, MODEL))
    read = [tables.TRANSACTION_FEATURES, *own_columns(state, state.model_features(version))]
    held = [state.snapshot(table) for table in read]
    if held[0].rows(days) and all(day in one.by_day for one in held for day in days):
        reference = _measure_reference(state, models, home, version, days)
        models.keep_reference(version, MODEL, reference.as_json())


def training_days(card: Mapping[str, Any]) -> list[date]:
    """First to last of the days that a card names; none if it does not."""
    named = card.get("training_days") or ()
    found = [named["first"], named["last"]] if isinstance(named, Mapping) else [*named]
    days = sorted(date.fromisoformat(str(day)) for day in found)
    return days_between(days[0], days[-1]) if days else []


def _measure_reference(
    state: State, models: ModelStore, home: Path, version: str, days: Sequence[date]
) -> Reference:
    share = min(1.0, SAMPLE_ROWS / state.snapshot(tables.TRANSACTION_FEATURES).rows(days))
    with state.warehouse.connect() as connection:
        register_features(connection, state, days, state.model_features(version))
        register_totals(connection, state, days)
        found = connection.sql(sql_text("drift_rows"), params={"share": share}).to_arrow_table()
    scorer = load_scorer(models, version, home, "cpu", "fp32")
    scores = [batch.select(["day", SCORE]) for batch in scorer.score(found.to_batches(), ["day"])]
    rows = found.to_batches()
    inputs = [name for name in scorer.features if name in found.column_names]
    starts = _starts(state, inputs)
    edges = _edges(rows, [*inputs, *NEW], starts)
    score_edges = _edges(scores, [SCORE], starts)
    counts = count_bins(rows, edges, days) | count_bins(scores, score_edges, days)
    weekly = {name: _by_weekday(c, days, starts[name]) for name, c in counts.items()}
    return Reference(starts, edges | score_edges, weekly)


def _starts(state: State, inputs: Sequence[str]) -> dict[str, date]:
    """The first day on which the days are there that inputs, novelty and score look back on."""
    clean = state.snapshot(tables.CLEAN_TRANSACTIONS)
    first = min(day for day in clean.by_day if clean.rows([day]))
    known = {feature.name: feature.look_back for feature in FEATURES}
    known |= {n: step.look_back for step in state.own.values() for n in step.tables[0].columns}
    back = {name: known.get(name, LOOK_BACK_DAYS) for name in inputs}
    back |= dict.fromkeys(NEW, NEW_FOR_DAYS) | {SCORE: max(back.values(), default=0)}
    return {name: first + timedelta(days=days) for name, days in back.items()}


def _edges(
    batches: Sequence[pa.RecordBatch], names: Sequence[str], starts: Mapping[str, date]
) -> dict[str, np.ndarray]:
    values = feature_matrix(batches, names)
    row_days = np.concatenate([b["day"].to_numpy(zero_copy_only=False) for b in batches])
    edges = {}
    for position, name in enumerate(names):
        column = values[row_days >= np.datetime64(starts[name]), position]
        known = column[np.isfinite(column)]
        deciles = np.quantile(known, DECILES, method="inverted_cdf") if len(known) else known
        edges[name] = np.unique(deciles)
    return edges


def _by_weekday(counts: np.ndarray, days: Sequence[date], start: date) -> np.ndarray:
    """Rows by day and bin as rows by weekday and bin, of days from ``start`` on."""
    weekly = np.zeros((7, counts.shape[1]), np.int64)
    counts = np.where(np.array(days)[:, None] >= start, counts, 0)
    np.add.at(weekly, [day.weekday() for day in days], counts)
    return weekly


def count_bins(
    batches: Iterable[pa.RecordBatch], edges: Mapping[str, np.ndarray], days: Sequence[date]
) -> dict[str, np.ndarray]:
    """Rows of each of some consecutive days in each bin: feature -> int64 [days, bins].

    Args:
        batches: columns ``day`` and those that ``edges`` names.
        edges: see :class:`Reference`.
    """
    counts = {name: np.zeros(len(days) * (len(e) + 2), np.int64) for name, e in edges.items()}
    for batch in batches:
        since = batch.column("day").to_numpy(zero_copy_only=False) - np.datetime64(days[0])
        day_numbers = since.astype(np.int64)
        values = feature_matrix(batch, list(edges))
        for column, (name, upper) in zip(values.T, edges.items(), strict=True):
            bins = np.where(np.isnan(column), len(upper) + 1, np.searchsorted(upper, column))
            places = day_numbers * (len(upper) + 2) + bins
            counts[name] += np.bincount(places, minlength=len(counts[name]))
    return {name: flat.reshape(len(days), -1) for name, flat in counts.items()}


def register_totals(connection: "Connection", state: State, days: Sequence[date]) -> None:
    """The views that ``drift_rows.sql`` reads beside the features, of some consecutive days."""
    wide = days_between(days[0] - timedelta(days=NEW_FOR_DAYS), days[-1])
    for table in (tables.CUSTOMER_DAYS, tables.TERMINAL_DAYS):
        totals = state.snapshot(table)
        totals.register(connection, totals.on(wide))


def measure_drift(connection: "Connection", models: ModelStore) -> None:
    """Add the table ``measured_drift`` of the days that ``fraud_predictions`` holds.

    Each day is compared with the reference of the version that scored it.
    """
    rows: list[dict[str, Any]] = []
    predictions = connection.view("fraud_predictions")
    scored = dict(predictions.select("day, model_version").distinct().fetchall())
    for version in sorted(set(scored.values())):
        kept = models.reference(version, MODEL)
        reference = Reference.from_json(kept) if kept else Reference.none()
        days = days_between(min(scored), max(scored))
        counts = _count_views(connection, reference, days)
        for number, day in enumerate(days):
            if scored.get(day) == version:
                rows += _drift_of_day(
                    reference, {n: c[number] for n, c in counts.items()}, day, version
                )
    connection.register("measured_drift", pa.Table.from_pylist(rows, tables.FEATURE_DRIFT.schema))


def _count_views(
    connection: "Connection", reference: Reference, days: Sequence[date]
) -> dict[str, np.ndarray]:
    rows = connection.sql(sql_text("drift_rows"), params={"share": 1.0})
    inputs = {n: e for n, e in reference.edges.items() if n in rows.columns}
    counts = count_bins(rows.to_arrow_reader(BATCH_ROWS), inputs, days)
    scores = connection.view("fraud_predictions").select("day, score")
    score_edges = {SCORE: reference.edges[SCORE]}
    return counts | count_bins(scores.to_arrow_reader(BATCH_ROWS), score_edges, days)


def _drift_of_day(
    reference: Reference, counts: Mapping[str, np.ndarray], day: date, version: str
) -> list[dict[str, Any]]:
    rows = []
    for name, now in counts.items():
        if not now.any():
            continue
        then = reference.counts[name][day.weekday()]
        young = _too_young(reference, name, day)
        terms = None if young else psi_terms(now, then)
        rows.append(
            {
                "feature": name,
                "transactions": int(now.sum()),
                "missing_share": float(now[-1] / now.sum()),
                "trained_missing_share": float(then[-1] / then.sum()) if then.sum() else None,
                "psi": None if terms is None else float(terms.sum()),
                "moved": young
                if terms is None
                else _in_words(reference.edges[name], int(terms.argmax()), now, then),
                "model_version": version,
                "day": day,
            }
        )
    return rows


def _too_young(reference: Reference, name: str, day: date) -> str | None:
    """In words, if a feature looks back on days from before there were any."""
    if day < reference.starts[name]:
        return f"{NOT_COMPARED}: it looks back on days before the first"
    if reference.starts[name] > date.min and not reference.counts[name].any():
        return f"{NOT_COMPARED}: on all training days it looked back on days before the first"
    return None


def psi_terms(now: np.ndarray, then: np.ndarray) -> np.ndarray | None:
    """What each bin adds to the PSI; None if there are too few rows to tell.

    Half a row is added to each bin that has a row on either side, so that one which is empty on
    the other counts as rare, by the number of rows there, and not as infinitely far.

    Args:
        now, then: rows by bin, int64 [bins].
    """
    rows, trained_rows = int(now.sum()), int(then.sum())
    if not rows or not trained_rows or 1 / (1 / rows + 1 / trained_rows) < LEAST_ROWS:
        return None
    half = np.where(now + then > 0, 0.5, 0.0)
    shares = [(counts + half) / (counts + half).sum() for counts in (now, then)]
    share, trained = (np.where(half > 0, s, 1.0) for s in shares)
    return np.asarray((share - trained) * np.log(share / trained))


def _in_words(edges: np.ndarray, place: int, now: np.ndarray, then: np.ndarray) -> str:
    share, trained = now[place] / now.sum(), then[place] / then.sum()
    if place == len(edges) + 1:
        where = "missing"
    elif place == len(edges):
        where = f"above {edges[-1]:.4g}" if len(edges) else "there"
    elif place == 0:
        where = f"at most {edges[0]:.4g}"
    else:
        where = f"above {edges[place - 1]:.4g} up to {edges[place]:.4g}"
    return f"{share:.1%} are {where}, {trained:.1%} when trained"
