"""How good the scores were, day by day; measured by ``sql/prediction_quality.sql``."""

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from functools import cache
from typing import Any

from batch_assets.fraud import tables
from batch_assets.fraud.drift import training_days
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.fraud.plots import line_plot
from batch_assets.fraud.scorer import MODEL

HISTORY_DAYS = 60
PLOTTED = {
    "average_precision": "average precision",
    "card_precision_at_100": "card precision@100",
}


def quality_of_days(pipeline: Pipeline, first: date, last: date) -> list[dict[str, Any]]:
    """Rows of ``prediction_quality`` of the days from first to last, ascending."""
    snapshot = pipeline.warehouse.snapshot(tables.PREDICTION_QUALITY)
    files = snapshot.on([day for day in snapshot.by_day if first <= day <= last])
    with pipeline.warehouse.connect() as connection:
        return snapshot.relation(connection, files).order("day").to_arrow_table().to_pylist()


def show_quality(pipeline: Pipeline, days: Sequence[date]) -> Callable[[date], dict[str, Any]]:
    """What to show of a day: its measures, and plots of the ``HISTORY_DAYS`` days up to it."""
    first = min(days, default=date.max) - timedelta(days=HISTORY_DAYS)
    rows = quality_of_days(pipeline, first, max(days, default=date.min))
    delay = timedelta(days=pipeline.feeds.label_delay_days)

    @cache
    def trained_on(version: str) -> list[date]:
        return training_days(pipeline.models.card(version, MODEL))

    def of_day(day: date) -> dict[str, Any]:
        own = next((row for row in rows if row["day"] == day), None)
        if own is None:
            return {}
        if not own["measured"]:
            return {"measured": False, "labels_expected_on": str(day + delay)}
        shown = {name: value for name, value in own.items() if value is not None and name != "day"}
        shown["fraud_amount"] = float(own["fraud_amount"] or 0)
        shown["model_trained_on_it"] = day in trained_on(own["model_version"])
        since = day - timedelta(days=HISTORY_DAYS)
        history = [row for row in rows if since < row["day"] <= day]
        seen = any(row["day"] in trained_on(row["model_version"]) for row in history)
        also = ", training days too" if seen else ""
        for name, title in PLOTTED.items():
            points = [(f"{r['day']:%m-%d}", r[name]) for r in history if r[name] is not None]
            shown[f"{name}_by_day"] = line_plot(f"{title}, days with known labels{also}", points)
        return shown

    return of_day
