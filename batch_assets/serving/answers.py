"""Rows of predictions as answers: with where they came from, how old and how fresh they are."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
from fastapi import Response

from batch_assets.serving.workload import Workload

if TYPE_CHECKING:
    from batch_assets.serving.lookup import Found
    from batch_assets.serving.view import View

REALTIME = "realtime"
MODEL_VERSION, SCORED_AT = "model_version", "scored_at"
encoded = msgspec.json.Encoder().encode


class Answers:
    """Makes answers of one workload.

    Args:
        workload: whose predictions.
        freshness_hours: after how long without a confirmation an answer is stale.
    """

    def __init__(self, workload: Workload, freshness_hours: int) -> None:
        self._times = tuple(
            field.name for field in workload.predictions.schema if pa.types.is_timestamp(field.type)
        )
        self._fresh = freshness_hours * 3600

    def row(self, found: "Found", view: "View", now: float, label: int | None) -> dict[str, Any]:
        """A row with its label, source, stale, age_seconds and view.

        A batch answer is as fresh as the last look at its table that found nothing to do:
        ``view.confirmed_at``; one of real time as when it was scored.
        """
        row = self.in_utc(found.row)
        scored = row[SCORED_AT].timestamp()
        confirmed = scored
        if found.source != REALTIME and view.confirmed_at is not None:
            confirmed = max(scored, seconds(view.confirmed_at))
        row["label"] = label
        row["source"] = found.source
        row["stale"] = now - confirmed > self._fresh
        row["age_seconds"] = round(max(0.0, now - scored), 3)
        row["view"] = view.number
        return row

    def in_utc(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row whose moments name their zone."""
        named = dict(row)
        for name in self._times:
            if isinstance(value := named.get(name), datetime) and value.tzinfo is None:
                named[name] = value.replace(tzinfo=UTC)
        return named

    def of_view(self, view: "View", now: float) -> dict[str, Any]:
        """scored_at, stale, age_seconds and view of an answer about many rows: the table's."""
        age = None
        if view.confirmed_at is not None:
            age = round(max(0.0, now - seconds(view.confirmed_at)), 3)
        return {
            "model_version": view.model_version,
            "scored_at": view.confirmed_at,
            "stale": age is None or age > self._fresh,
            "age_seconds": age,
            "view": view.number,
        }


def seconds(moment: datetime) -> float:
    """Since 1970; a moment without a zone is UTC."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def answer(content: Mapping[str, Any] | list[Any]) -> Response:
    """JSON; NaN and infinity as null, moments in ISO 8601 with their zone."""
    return Response(encoded(content), media_type="application/json")
