"""What is served: each workload, its columns, and what can be asked of it."""

from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from batch_assets.serving.answers import answer
from batch_assets.serving.fields import AnyRow
from batch_assets.serving.mounted import Mounted


class Described(AnyRow):
    """One workload."""

    name: str
    title: str
    model_version: str | None = Field(description="The live one.")
    key: str = Field(description="Column that identifies a prediction.")
    time: str = Field(description="Column with the moment that it is about.")
    score: str = Field(description="Column with the prediction.")
    entities: dict[str, str] = Field(description="Name in the path -> column.")
    offers: dict[str, bool] = Field(description="What can be asked.")


class Catalogue(BaseModel):
    """Everything that is served."""

    freshness_hours: int
    dagster_url: str
    workloads: list[Described]


def catalogue_routes(mounted: "list[Mounted]", freshness_hours: int, dagster_url: str) -> APIRouter:
    """``/v1``."""
    router = APIRouter(tags=["server"])

    @router.get("/v1", response_model=Catalogue, summary="What is served?")
    async def catalogue() -> Response:
        return answer(
            {
                "freshness_hours": freshness_hours,
                "dagster_url": dagster_url,
                "workloads": [described(one) for one in mounted],
            }
        )

    return router


def described(mounted: Mounted) -> dict[str, Any]:
    """A workload as it declares itself, and the days that it has now."""
    workload, served = mounted.workload, mounted.served
    view, url = served.view, served.settings.dagster_url.rstrip("/")
    units = workload.units()
    return {
        "name": workload.name,
        "title": workload.title or workload.name,
        "model_version": view.model_version,
        "key": workload.key,
        "time": workload.time,
        "score": workload.score,
        "entities": dict(workload.entities),
        "equals": list(workload.equals),
        "ranges": list(workload.ranges),
        "columns": {
            name: {
                "label": name.replace("_", " ").capitalize(),
                "unit": units.get(name),
                "description": meaning,
            }
            for name, (_, meaning) in workload.predictions.columns.items()
        },
        "words": dict(workload.words),
        "days": {
            "first": min(view.days, default=None),
            "newest": max(view.days, default=None),
            "count": len(view.days),
        },
        "offers": {
            "alerts": workload.alerts is not None,
            "explanation": workload.explain is not None,
            "similar": True,
            "map": True,
            "score": served.realtime is not None,
        },
        "request": workload.request.model_json_schema() if workload.request else None,
        "asset": workload.asset,
        "lineage": f"{url}/assets/{workload.asset}" if url and workload.asset else None,
    }
