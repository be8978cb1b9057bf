"""Whether embeddings mean something: how many frauds are among the nearest of a fraud.

Share of frauds among the ten nearest neighbours of each fraud of a day, against their share among
all that could be neighbours: the lift, 1 by chance. The search is exact.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from batch_assets.errors import BatchAssetsError
from batch_assets.fraud import tables
from batch_assets.fraud.embeddings import EMBEDDING_SIZE, EMBEDDINGS
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.fraud.training_data import labelled_rows

NEIGHBOURS = 10
KNOWN_DAYS = 7
RESAMPLES = 1_000
SEED = 0
QUERIES_AT_ONCE = 256


@dataclass(frozen=True)
class Points:
    """Transactions in a space.

    Args:
        vectors: float [n, size].
        kinds: integer [n], 0 for a genuine one, else the kind of the fraud.
        owners: integer [n, any]; two transactions with a common number in a column are of one
            customer, or at one terminal.
    """

    vectors: np.ndarray
    kinds: np.ndarray
    owners: np.ndarray

    @property
    def frauds(self) -> np.ndarray:
        """Bool [n]."""
        return self.kinds > 0

    def chosen(self, which: np.ndarray) -> "Points":
        return Points(self.vectors[which], self.kinds[which], self.owners[which])


@dataclass(frozen=True)
class Found:
    """Of each query the share of frauds among its neighbours, of frauds of its own kind, and of
    frauds among all that could be neighbours."""

    shares: np.ndarray
    same: np.ndarray
    chances: np.ndarray

    def figures(self, kinds: bool = False) -> dict[str, Any]:
        """Lift with a 95 % interval (bootstrap over the queries), shares, and how many queries.

        Args:
            kinds: that of frauds of the same kind, too.
        """
        random = np.random.default_rng(SEED)
        again = random.integers(len(self.shares), size=(RESAMPLES, len(self.shares)))
        lifts = self.shares[again].mean(axis=1) / self.chances[again].mean(axis=1)
        low, high = np.quantile(lifts, [0.025, 0.975])
        share, chance = float(self.shares.mean()), float(self.chances.mean())
        same = {"share_of_frauds_of_the_same_kind": round(float(self.same.mean()), 4)}
        return {
            "lift": round(share / chance, 2),
            "lift_low": round(float(low), 2),
            "lift_high": round(float(high), 2),
            "share_of_frauds": round(share, 4),
            **(same if kinds else {}),
            "chance": round(chance, 5),
            "queries": len(self.shares),
        }


def neighbour_frauds(
    points: Points, pool: Points, *, within: bool, strangers: bool, k: int = NEIGHBOURS
) -> Found:
    """What is near each fraud among ``points``; of equally near ones, the first of the pool.

    Args:
        within: the pool is ``points`` itself: none is its own neighbour.
        strangers: leave out what has an owner in common with the query.
    """
    shares, same, chances = [], [], []
    squares = (pool.vectors**2).sum(axis=1)
    for at in np.array_split(np.flatnonzero(points.frauds), _parts(int(points.frauds.sum()))):
        queries = points.chosen(at)
        # without the query's own square, which orders nothing
        distances = squares - 2.0 * queries.vectors @ pool.vectors.T
        left_out = np.zeros(distances.shape, bool)
        if within:
            left_out[np.arange(len(at)), at] = True
        for column in range(points.owners.shape[1] if strangers else 0):
            left_out |= queries.owners[:, column, None] == pool.owners[:, column]
        distances[left_out] = np.inf
        nearest = np.argsort(distances, axis=1, kind="stable")[:, :k]
        shares.append(pool.frauds[nearest].mean(axis=1))
        same.append((pool.kinds[nearest] == queries.kinds[:, None]).mean(axis=1))
        allowed = ~left_out
        chances.append((allowed & pool.frauds).sum(axis=1) / allowed.sum(axis=1))
    return Found(np.concatenate(shares), np.concatenate(same), np.concatenate(chances))


def embedding_lift(
    pipeline: Pipeline, days: Sequence[date], kinds: Mapping[str, int] | None = None
) -> dict[str, dict[str, Any]]:
    """Lift of stored embeddings, beside that of the features and of the score, on some days.

    Args:
        kinds: of frauds, from 1, by transaction_id, where the data tell them apart.

    Returns:
        Pool -> space -> figures. Pools: ``same day``; ``same day, strangers``, without the query's
        customer and terminal; ``known by then``, the last seven days whose labels had arrived.
        Spaces: ``embedding`` (as it is searched), ``embedding, cosine``, ``features`` (each with
        mean 0 and deviation 1), ``score`` (the logit alone).

    Raises:
        BatchAssetsError: a day is not scored, or holds no fraud.
    """
    delay = timedelta(days=pipeline.feeds.label_delay_days + 1)
    first = min(days) - delay - timedelta(days=KNOWN_DAYS - 1)
    scored = pipeline.warehouse.snapshot(tables.FRAUD_PREDICTIONS).by_day
    wanted = [d for d in sorted(scored) if first <= d <= max(days)]
    if missing := sorted(set(days) - set(wanted)):
        raise BatchAssetsError(f"{missing[0]} is not scored: run `batch-assets run` for it first")
    rows, spaces = _rows_and_spaces(pipeline, wanted)
    day_of = rows["day"].to_numpy().astype("datetime64[D]")
    frauds = rows["is_fraud"].to_numpy(zero_copy_only=False).astype(int)
    if kinds:
        frauds *= np.array([kinds.get(key, 1) for key in rows["transaction_id"].to_pylist()])
    owners = np.stack(
        [rows[name].combine_chunks().dictionary_encode().indices.to_numpy() for name in _OWNERS], 1
    )
    found: dict[str, dict[str, list[Found]]] = {}
    for name, vectors in spaces.items():
        points = Points(vectors, frauds, owners)
        for day in days:
            of_day = points.chosen(day_of == np.datetime64(day))
            before = (day_of <= np.datetime64(day - delay)) & (
                day_of > np.datetime64(day - delay - timedelta(days=KNOWN_DAYS))
            )
            for pool, one in _of_pools(of_day, points.chosen(before)).items():
                found.setdefault(pool, {}).setdefault(name, []).append(one)
    if not found:
        raise BatchAssetsError(f"no fraud is known of {min(days)} to {max(days)}")
    return {
        pool: {space: _joined(parts).figures(bool(kinds)) for space, parts in by_space.items()}
        for pool, by_space in found.items()
    }


_OWNERS = ("customer_id", "terminal_id")


def _of_pools(points: Points, known: Points) -> dict[str, Found]:
    """What is near the frauds of a day; nothing of a pool in which chance would find none."""
    found = {}
    if points.frauds.sum() > 1:
        found["same day"] = neighbour_frauds(points, points, within=True, strangers=False)
        found["same day, strangers"] = neighbour_frauds(points, points, within=True, strangers=True)
    if points.frauds.any() and known.frauds.any():
        found["known by then"] = neighbour_frauds(points, known, within=False, strangers=False)
    return found


def _rows_and_spaces(
    pipeline: Pipeline, days: Sequence[date]
) -> tuple[pa.Table, dict[str, np.ndarray]]:
    """Labelled rows of scored days, and where each of them is."""
    from batch_assets.inference.batches import feature_matrix

    state = pipeline.state()
    keys = state.snapshot(tables.FRAUD_PREDICTIONS).keys
    reader = pipeline.vectors.scan(
        EMBEDDINGS, ["transaction_id", "vector", "score"], valid={d: keys[d] for d in days}
    )
    stored = reader.read_all()
    rows = labelled_rows(state, days).table.sort_by("transaction_id")
    stored = stored.sort_by("transaction_id")
    if not rows["transaction_id"].equals(stored["transaction_id"]):
        raise BatchAssetsError(
            f"features and vectors of {days[0]} to {days[-1]} are not of the same transactions: "
            "run `batch-assets run` for these days"
        )
    flat = stored["vector"].combine_chunks().flatten().to_numpy()
    embedding = flat.reshape(-1, EMBEDDING_SIZE).astype(np.float64)
    score = np.clip(stored["score"].to_numpy().astype(np.float64), 1e-7, 1 - 1e-7)
    card = pipeline.live_card() or {}
    features = feature_matrix(rows.combine_chunks().to_batches(), card["features"])
    spaces: Mapping[str, np.ndarray] = {
        "embedding": embedding,
        "embedding, cosine": _scaled(embedding, np.linalg.norm(embedding, axis=1, keepdims=True)),
        "features": _standardised(features.astype(np.float64)),
        "score": np.log(score / (1 - score))[:, None],
    }
    return rows, dict(spaces)


def _standardised(features: np.ndarray) -> np.ndarray:
    """Each column with mean 0 and deviation 1; what is missing or infinite is at the mean."""
    features = np.where(np.isfinite(features), features, np.nan)
    mean, deviation = np.nanmean(features, axis=0), np.nanstd(features, axis=0)
    return np.nan_to_num(_scaled(features - mean, deviation), nan=0.0)


def _scaled(values: np.ndarray, by: np.ndarray) -> np.ndarray:
    return values / np.where(by > 0, by, 1.0)


def _joined(parts: Sequence[Found]) -> Found:
    return Found(
        np.concatenate([part.shares for part in parts]),
        np.concatenate([part.same for part in parts]),
        np.concatenate([part.chances for part in parts]),
    )


def _parts(queries: int) -> int:
    return max(1, -(-queries // QUERIES_AT_ONCE))
