"""What moved the scores of transactions, and the frauds that one of them resembles."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from batch_assets.errors import BatchAssetsError
from batch_assets.fraud import tables
from batch_assets.fraud.embeddings import EMBEDDINGS, NEIGHBOUR_COLUMNS, with_distance
from batch_assets.fraud.feature_rows import register_scored_features
from batch_assets.fraud.keys import PREDICTIONS, State
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.fraud.reasons import Reason, reasons
from batch_assets.fraud.scorer import load_scorer
from batch_assets.fraud.sentences import Facts
from batch_assets.fraud.sql import sql_text
from batch_assets.storage.models import ModelStore
from batch_assets.storage.vectors import Equals, OneOf
from batch_assets.storage.vectors.errors import VectorStoreError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Connection
    from torch import nn

REASONS_REPORTED = 3
NEWEST_FRAUDS = 5_000
"""So many known frauds, the newest, are compared with a transaction."""


@dataclass(frozen=True)
class Explanation:
    """Of one transaction: its score and that of a usual one, and what made the difference.

    Args:
        contributions: feature -> what it added to the logit; together they are the difference of
            the two scores' logits.
    """

    score: float
    usual_score: float
    contributions: dict[str, float]
    reasons: list[Reason]


@dataclass
class Explainer:
    """Explains rows of ``transaction_features`` by the model that scored each.

    Args:
        home: data home, see :func:`batch_assets.fraud.scorer.load_scorer`.
        currency: of amounts.
    """

    models: ModelStore
    home: Path
    currency: str
    _loaded: "dict[str, tuple[nn.Module, Sequence[str]]]" = field(default_factory=dict)

    def explain(
        self, connection: "Connection", rows: pa.Table, top: int = REASONS_REPORTED
    ) -> list[Explanation]:
        """Explain each row.

        Args:
            connection: with the view ``transaction_features``, read for a model that does not
                say what is usual.
            rows: columns of ``transaction_features`` and ``model_version``.

        Raises:
            UnknownModelError: a model that scored is not in the store any more.
        """
        versions, days = rows["model_version"].to_pylist(), rows["day"].to_pylist()
        parts: dict[tuple[str, date], list[int]] = {}
        for i, of in enumerate(zip(versions, days, strict=True)):
            parts.setdefault(of, []).append(i)
        found: dict[int, Explanation] = {}
        for (version, day), at in parts.items():
            explained = self._explain_part(connection, version, day, rows.take(at), top)
            found.update(zip(at, explained, strict=True))
        return [found[i] for i in range(len(rows))]

    def _explain_part(
        self, connection: "Connection", version: str, day: date, rows: pa.Table, top: int
    ) -> list[Explanation]:
        from batch_assets.inference.attribution import attributions, baseline_row
        from batch_assets.inference.batches import feature_matrix

        network, features = self._model(version)
        matrix = feature_matrix(rows.combine_chunks().to_batches(), features)
        baseline = baseline_row(network, lambda: _medians(connection, day, features))
        # seven digits, as the nearest double of a float32 has digits that nobody wrote
        usual = {name: float(f"{v:.7g}") for name, v in zip(features, baseline, strict=True)}
        explained = []
        for row, found in zip(
            rows.to_pylist(), attributions(network, matrix, baseline), strict=True
        ):
            shares = found.contributions.tolist()
            explained.append(
                Explanation(
                    _probability(found.logit),
                    _probability(found.baseline_logit),
                    dict(zip(features, shares, strict=True)),
                    reasons(features, shares, Facts(row, usual, self.currency), top),
                )
            )
        return explained

    def _model(self, version: str) -> "tuple[nn.Module, Sequence[str]]":
        if version not in self._loaded:
            scorer = load_scorer(self.models, version, self.home, "cpu", "fp32")
            self._loaded[version] = scorer.network, scorer.features
        return self._loaded[version]


def report_reasons(explainer: Explainer, connection: "Connection") -> None:
    """Add ``alert_reasons`` to a connection that has ``riskiest`` and ``transaction_features``."""
    rows = connection.sql(sql_text("alert_features")).to_arrow_table()
    explained = explainer.explain(connection, rows)
    words = [[reason.text for reason in one.reasons] for one in explained]
    found = rows.select(["day", "transaction_id"]).append_column(
        "reasons", pa.array(words, pa.list_(pa.string()))
    )
    connection.register("alert_reasons", found)


def explain(
    pipeline: Pipeline, transaction_id: str, *, top: int = 5, neighbours: int = 5
) -> dict[str, Any]:
    """Why a transaction has its score, and the known frauds that are most similar to it.

    Args:
        top: the most reasons.
        neighbours: how many known frauds.

    Returns:
        transaction_id, day, happened_at, customer_id, terminal_id, amount, currency, score,
        usual_score, model_version, scored_at, reasons (feature, value, usual, contribution, text),
        contributions (by feature), nearest_known_frauds (rows as those of ``similar``, and
        known_on), notes.

    Raises:
        BatchAssetsError: the transaction is not scored.
    """
    state = pipeline.state()
    with pipeline.warehouse.connect() as connection:
        row = _row_of(connection, state, transaction_id)
        explainer = Explainer(pipeline.models, pipeline.settings.home, pipeline.settings.currency)
        (found,) = explainer.explain(connection, row, top)
    of = row.to_pylist()[0]
    notes = []
    if state.under(of["model_version"]).stale(PREDICTIONS, [of["day"]]):
        notes.append(
            f"its day has changed since it was scored; the same model gives {found.score:.4f} now: "
            f"run `batch-assets run --from {of['day']} --to {of['day']}`"
        )
    frauds, note = _nearest_frauds(pipeline, state, transaction_id, of["model_version"], neighbours)
    shown = ("transaction_id", "day", "happened_at", "customer_id", "terminal_id", "amount")
    return {
        **{name: of[name] for name in shown},
        "currency": pipeline.settings.currency,
        "score": of["score"],
        "usual_score": found.usual_score,
        "model_version": of["model_version"],
        "scored_at": of["scored_at"],
        "reasons": [asdict(reason) for reason in found.reasons],
        "contributions": found.contributions,
        "nearest_known_frauds": frauds,
        "notes": notes + note,
    }


def _row_of(connection: "Connection", state: State, transaction_id: str) -> pa.Table:
    """Features, score and model of a transaction; its day's features are a view from then on."""
    named = {"transaction_id": transaction_id}
    predictions = state.snapshot(tables.FRAUD_PREDICTIONS)
    predictions.register(connection)
    days = [day for (day,) in connection.execute(sql_text("day_of_transaction"), named).fetchall()]
    if not days:
        raise BatchAssetsError(
            f"transaction {transaction_id!r} is not scored: it is unknown, or its day is still to "
            "be built; `batch-assets status` shows the days"
        )
    predictions.register(connection, predictions.on(days))
    register_scored_features(connection, state, days)
    found = connection.sql(sql_text("explained_transaction"), params=named).to_arrow_table()
    if not found.num_rows:
        raise BatchAssetsError(
            f"transaction {transaction_id!r} has a score but no features any more: "
            "run its day again with `batch-assets run`"
        )
    return found


def _nearest_frauds(
    pipeline: Pipeline, state: State, transaction_id: str, version: str, count: int
) -> tuple[list[dict[str, Any]], list[str]]:
    """The known frauds scored by the same model whose embeddings are nearest; and notes."""
    labels = state.snapshot(tables.FRAUD_LABELS)
    with pipeline.warehouse.connect() as connection:
        labels.register(connection)
        known = dict(connection.execute(sql_text("fraud_ids"), {"most": NEWEST_FRAUDS}).fetchall())
    if not known:
        return [], []
    try:
        found = pipeline.vectors.search(
            EMBEDDINGS,
            key=transaction_id,
            k=count,
            filters=[Equals("model_version", version), OneOf("transaction_id", list(known))],
            exact=True,
            valid=state.snapshot(tables.FRAUD_PREDICTIONS).keys,
            columns=NEIGHBOUR_COLUMNS,
        )
    except VectorStoreError as error:
        return [], [f"no known frauds to compare with: {error}"]
    found = with_distance(found)
    return [{**row, "known_on": known[row["transaction_id"]]} for row in found.to_pylist()], []


def _medians(connection: "Connection", day: date, features: Sequence[str]) -> np.ndarray:
    """Medians of all transactions of a day, float32 [features]."""
    found = connection.sql(sql_text("feature_medians"), params={"day": day}).to_arrow_table()
    row: Mapping[str, Any] = found.to_pylist()[0]
    return np.array([np.nan if row[name] is None else row[name] for name in features], np.float32)


def _probability(logit: float) -> float:
    return float(1.0 / (1.0 + np.exp(-logit)))
