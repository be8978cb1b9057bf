"""How the server is: alive, ready, fresh, and its measurements."""

import time
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from batch_assets.serving import metrics
from batch_assets.serving.answers import answer, seconds
from batch_assets.serving.mounted import Mounted
from batch_assets.serving.problems import Problem


class Health(BaseModel):
    """The process answers."""

    status: str = Field(examples=["ok"])


class Freshness(BaseModel):
    """How fresh the predictions of one workload are."""

    workload: str
    model_version: str | None = Field(description="The live one.")
    newest_day: date | None = Field(description="The newest day that is scored.")
    days: int = Field(description="Days that are scored.")
    predictions: int = Field(description="Rows in all.")
    confirmed_at: datetime | None = Field(description="When the predictions last changed.")
    age_seconds: float | None = Field(description="Since then.")
    stale: bool = Field(description="Older than the freshness policy allows.")
    policy_hours: int = Field(description="What it allows.")
    view: int = Field(description="Number of the state of the tables that is served.")
    days_in_memory: int
    problems: list[str] = Field(description="What cannot be read, and is not served therefore.")
    lineage: str | None = Field(description="Where the Dagster UI shows how it was made.")


class AllFresh(BaseModel):
    """Of all workloads."""

    stale: bool = Field(description="Any of them is.")
    workloads: list[Freshness]


class Readiness(BaseModel):
    """Whether questions can be answered."""

    status: str = Field(examples=["ready"], description="ready, or empty: nothing is scored yet.")
    notes: list[str] = Field(description="What to do so that more can be answered.")


def status_routes(
    mounted: Sequence[Mounted], stopping: Callable[[], bool], measures: metrics.Metrics
) -> APIRouter:
    """``/healthz``, ``/readyz``, ``/metrics``, ``/v1/freshness``."""
    router = APIRouter(tags=["server"])

    @router.get("/healthz", response_model=Health, summary="Is the process alive?")
    async def health() -> Response:
        return answer({"status": "ok"})

    @router.get("/readyz", response_model=Readiness, summary="Can it answer?")
    async def ready() -> Response:
        if stopping():
            raise Problem("starting", "the server is stopping: ask another one")
        notes = [
            f"{one.workload.name}: nothing is scored yet; run `batch-assets run`, this server "
            "notices by itself"
            for one in mounted
            if not one.served.view.days
        ]
        notes += [
            f"{one.workload.name}: nothing is scored in real time as long as no model is live"
            for one in mounted
            if one.workload.realtime is not None and one.served.realtime is None
        ]
        anything = any(one.served.view.days for one in mounted)
        return answer({"status": "ready" if anything else "empty", "notes": notes})

    @router.get("/v1/freshness", response_model=AllFresh, summary="How old are the answers?")
    async def freshness() -> Response:
        found = [_freshness(one) for one in mounted]
        return answer({"stale": any(one["stale"] for one in found), "workloads": found})

    @router.get(
        "/metrics",
        summary="Measurements, for Prometheus",
        response_class=Response,
        responses={200: {"content": {metrics.MEDIA_TYPE: {"schema": {"type": "string"}}}}},
    )
    async def prometheus() -> Response:
        return Response(measures.text(), headers={"Content-Type": metrics.MEDIA_TYPE})

    return router


def _freshness(mounted: Mounted) -> dict[str, Any]:
    served, view = mounted.served, mounted.served.view
    settings, asset = served.settings, mounted.workload.asset
    age = None
    if view.confirmed_at is not None:
        age = round(max(0.0, time.time() - seconds(view.confirmed_at)), 3)
    newest = max(view.days, default=None)
    lineage = None
    if settings.dagster_url and asset:
        partition = f"?partition={newest}" if newest else ""
        lineage = f"{settings.dagster_url.rstrip('/')}/assets/{asset}{partition}"
    problems = [f"{day}: {why}" for day, why in view.problems.items()]
    if served.views.failure:
        problems.append(served.views.failure)
    return {
        "workload": mounted.workload.name,
        "model_version": view.model_version,
        "newest_day": newest,
        "days": len(view.days),
        "predictions": view.predictions.rows(),
        "confirmed_at": view.confirmed_at,
        "age_seconds": age,
        "stale": age is None or age > settings.freshness_hours * 3600,
        "policy_hours": settings.freshness_hours,
        "view": view.number,
        "days_in_memory": len(view.blocks),
        "problems": problems,
        "lineage": lineage,
    }
