"""``batch-assets cost``: what it cost to score some days, and what it would have cost on demand."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from batch_assets.engines.prices import HOUR, Prices
from batch_assets.errors import BatchAssetsError
from batch_assets.fraud import tables
from batch_assets.fraud.feature_rows import register_features
from batch_assets.fraud.keys import days_between
from batch_assets.fraud.ledger import Row, entries
from batch_assets.fraud.pipeline import NoLiveModelError, Pipeline
from batch_assets.fraud.run import checked_range
from batch_assets.fraud.sql import sql_text
from batch_assets.storage.warehouse import Snapshot

if TYPE_CHECKING:
    from batch_assets.inference.scoring import Scorer

CALLS = 2_000
WARM_UP = 50
MILLION = 1e6


@dataclass(frozen=True)
class OnDemand:
    """Rows scored by a call each, while ``at_once`` calls share the device.

    Attributes:
        at_once: calls that run at the same moment, without slowing each other: as many as the
            scorer has threads.
        seconds: of each call that was measured.
    """

    device: str
    device_name: str
    at_once: int
    seconds: np.ndarray

    def device_seconds(self, rows: int, utilisation: float) -> float:
        """For which the device is held, if calls fill it for that share of the time.

        Each call takes the median: few that something else held up would decide the mean.
        """
        return rows * float(np.median(self.seconds)) / self.at_once / utilisation


def cost(pipeline: Pipeline, first: date, last: date, calls: int = CALLS) -> dict[str, Any]:
    """What the days cost, by day and asset and in all, against the same rows one by one.

    Args:
        calls: of one row each, through the live model's scorer, over sampled rows of the days.

    Returns:
        first_day, last_day, currency, days, total, on_demand and saving_percent (null where they
        cannot be told), and notes that say why; money is null without prices.

    Raises:
        BatchAssetsError: no attempt to score any of the days is on record.
    """
    first, last = checked_range(pipeline.settings, first, last)
    attempts = entries(pipeline.warehouse, first, last)
    predictions = pipeline.warehouse.snapshot(tables.FRAUD_PREDICTIONS)
    days = days_between(first, last)
    notes = _missing_days(days, attempts, predictions)
    if not attempts:
        raise BatchAssetsError("; ".join(notes))
    prices = pipeline.settings.prices
    currency = prices.currency if prices.devices else attempts[-1]["currency"]
    for row in attempts:
        row["money"] = _money(row, prices, currency)
    notes += _missing_prices(attempts, pipeline)
    by_day = [
        _costs(list(group), predictions, day=day, asset=asset)
        for (day, asset), group in groupby(attempts, lambda row: (row["day"], row["asset"]))
    ]
    total = _costs(attempts, predictions)
    on_demand, reason = _on_demand(pipeline, attempts, calls)
    notes += [reason] if reason else []
    alone = _alone(on_demand, total["rows"], prices) if on_demand else None
    return {
        "first_day": first,
        "last_day": last,
        "currency": currency,
        "days": by_day,
        "total": total,
        "on_demand": alone,
        "saving_percent": _saving(total, alone) if alone else None,
        "notes": notes,
    }


def _costs(attempts: Sequence[Row], predictions: Snapshot, **what: Any) -> dict[str, Any]:
    """Sums over attempts; rows are those that one has in the end, each counted once."""
    rows = predictions.rows({row["day"] for row in attempts})
    seconds = sum(row["device_seconds"] for row in attempts)
    money = _sum(row["money"] for row in attempts)
    return {
        **what,
        "attempts": len(attempts),
        "rows": rows,
        "rows_reused": sum(row["rows_reused"] for row in attempts),
        "rows_twice": sum(row["rows_twice"] for row in attempts),
        "device_seconds": seconds,
        "device_seconds_per_million_rows": seconds / rows * MILLION if rows else None,
        "money": money,
        "money_per_million_rows": money / rows * MILLION if rows and money is not None else None,
    }


def _sum(values: Iterable[float | None]) -> float | None:
    """Null as soon as one of them is: a part of the costs is not the costs."""
    total = 0.0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def _money(row: Row, prices: Prices, currency: str | None) -> float | None:
    """As recorded; at today's prices where none, or those of another currency, were set then."""
    if row["money"] is not None and row["currency"] == currency:
        return float(row["money"])
    started_at = row["started_at"].replace(tzinfo=UTC)
    found = prices.cost(
        row["device"],
        started_at,
        row["elapsed_seconds"],
        row["devices"],
        row["device_name"] or "",
    )
    return found.money if found else None


def _missing_days(
    days: Sequence[date], attempts: Sequence[Row], predictions: Snapshot
) -> list[str]:
    recorded = {row["day"] for row in attempts}
    scored = set(predictions.by_day)
    unrecorded = [d for d in days if d in scored - recorded]
    missing = [d for d in days if d not in scored]
    notes = []
    if unrecorded:
        notes.append(f"{_count(unrecorded)} scored, but what that took is not on record")
    if missing:
        notes.append(
            f"{_count(missing)} not scored; "
            f"`batch-assets run --from {missing[0]} --to {missing[-1]}` does it"
        )
    return notes


def _count(days: Sequence[date]) -> str:
    if len(days) == 1:
        return f"{days[0]} is"
    return f"{len(days)} days between {days[0]} and {days[-1]} are"


def _missing_prices(attempts: Sequence[Row], pipeline: Pipeline) -> list[str]:
    unpriced = Counter(row["device"] for row in attempts if row["money"] is None)
    if not unpriced:
        return []
    where = pipeline.settings.home / "settings.toml"
    return [
        f"no price is set for {', '.join(sorted(unpriced))}: add it to [prices] in {where} "
        "to see money (docs/operations.md)"
    ]


def _on_demand(
    pipeline: Pipeline, attempts: Sequence[Row], calls: int
) -> tuple[OnDemand | None, str]:
    """The measurement, or why there is none."""
    try:
        scorer = pipeline.scorer()
    except NoLiveModelError as error:
        return None, f"calls on demand cannot be measured: {error}"
    device = str(scorer.device)
    others = {row["device"] for row in attempts if _kind(row["device"]) != _kind(device)}
    if others:
        return None, (
            f"calls on demand would be measured on {device}, but days were scored on "
            f"{', '.join(sorted(others))}: the two cannot be compared"
        )
    rows = _sample(pipeline, scorer, sorted({row["day"] for row in attempts}))
    if not len(rows):
        return None, "calls on demand cannot be measured: the days have no features"
    names = [row["device_name"] for row in attempts if row["device_name"]]
    seconds = _measure(scorer, rows, calls)
    return OnDemand(device, names[-1] if names else "", scorer.threads, seconds), ""


def _kind(device: str) -> str:
    return device.partition(":")[0]


def _sample(pipeline: Pipeline, scorer: "Scorer", days: Sequence[date]) -> np.ndarray:
    """Model inputs of sampled transactions, float32 [at most 2,000, features]."""
    from batch_assets.inference.batches import feature_matrix

    with pipeline.warehouse.connect() as connection:
        register_features(connection, pipeline.state(), days, scorer.features)
        found = connection.sql(sql_text("sample_features")).to_arrow_table()
    batches = [feature_matrix(batch, scorer.features) for batch in found.to_batches()]
    return np.concatenate(batches) if batches else np.empty((0, len(scorer.features)), np.float32)


def _measure(scorer: "Scorer", rows: np.ndarray, calls: int) -> np.ndarray:
    """Seconds of each call of one row, after some that nobody counts."""
    seconds = np.empty(calls)
    for n in range(-WARM_UP, calls):
        row = rows[n % len(rows)][np.newaxis]
        started = time.perf_counter()
        scorer.score_matrix(row)
        if n >= 0:
            seconds[n] = time.perf_counter() - started
    return seconds


def _alone(found: OnDemand, rows: int, prices: Prices) -> dict[str, Any]:
    held = found.device_seconds(rows, prices.on_demand_utilisation)
    price = prices.of(found.device, found.device_name)
    return {
        "device": found.device,
        "calls": len(found.seconds),
        "calls_at_once": found.at_once,
        "utilisation": prices.on_demand_utilisation,
        "milliseconds_median": float(np.median(found.seconds)) * 1e3,
        "milliseconds_p95": float(np.quantile(found.seconds, 0.95)) * 1e3,
        "device_seconds": held,
        "price_per_device_hour": price.normal if price else None,
        "money": price.normal * held / HOUR if price else None,
    }


def _saving(total: dict[str, Any], alone: dict[str, Any]) -> dict[str, float | None] | None:
    """Per cent of the costs on demand; what is less than none was lost.

    ``in_all`` = 1 - (1 - from_time) (1 - from_price).
    """
    if not total["rows"]:
        return None
    time_ratio = total["device_seconds"] / alone["device_seconds"]
    saved: dict[str, float | None] = {
        "from_time": 100 * (1 - time_ratio),
        "from_price": None,
        "in_all": None,
    }
    if total["money"] is not None and total["device_seconds"] and alone["price_per_device_hour"]:
        price_ratio = (
            total["money"] / (total["device_seconds"] / HOUR) / alone["price_per_device_hour"]
        )
        saved["from_price"] = 100 * (1 - price_ratio)
        saved["in_all"] = 100 * (1 - time_ratio * price_ratio)
    return saved
