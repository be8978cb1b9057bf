"""Neighbours of a prediction or a vector, and the map of all."""

from typing import Any

from fastapi import APIRouter, Request, Response

from batch_assets.serving.answers import answer
from batch_assets.serving.mounted import Mounted
from batch_assets.serving.neighbours import UnknownKey
from batch_assets.serving.problems import Problem, invalid
from batch_assets.storage.vectors import Equals, Range


def search_routes(mounted: Mounted) -> APIRouter:
    """``similar``."""
    router = mounted.router()
    request_model, key = mounted.models.search, mounted.workload.key

    @router.post(
        "/similar",
        response_model=mounted.models.neighbours,
        summary="Nearest neighbours",
        description=f"The neighbours of a {key} or of a vector, by their embeddings.",
    )
    async def similar(request: Request, body: request_model) -> Response:  # type: ignore[valid-type]
        asked: dict[str, Any] = body.model_dump(exclude_unset=True)  # type: ignore[attr-defined]
        _check(asked, mounted)
        view = mounted.served.view
        arguments = {
            "vector": asked.get("vector"),
            "key": asked.get(key),
            "k": asked.get("k", 10),
            "days": _days(asked),
            "filters": _filters(asked, mounted),
            "exact": asked.get("exact", False),
            "model": asked.get("model_version"),
        }
        if key in asked and not await mounted.find(view, [asked[key]]):
            raise mounted.not_scored(key)
        try:
            found = await mounted.searches.run(mounted.served.neighbours.search, view, **arguments)
        except UnknownKey:
            raise mounted.not_scored(key) from None
        if not found.rows and found.other_model_days and "model_version" in asked:
            raise Problem(
                "not-scored",
                "no day was scored by this model, and vectors of different models cannot be "
                f"compared: the live one is {view.model_version}; compute the vector with that",
            )
        return answer(mounted.neighbours(request, view, found))

    return router


def _check(asked: dict[str, Any], mounted: Mounted) -> None:
    """What no schema can say of one field alone."""
    key = mounted.workload.key
    if (key in asked) == ("vector" in asked):
        raise invalid("body", f"give either {key} or vector")
    pairs = [("first_day", "last_day")]
    pairs += [(f"min_{column}", f"max_{column}") for column in mounted.workload.ranges]
    for low, high in pairs:
        if low in asked and high in asked and asked[low] > asked[high]:
            raise invalid(f"body.{low}", f"should not be greater than {high}")


def _days(asked: dict[str, Any]) -> tuple[Any, Any] | None:
    days = (asked.get("first_day"), asked.get("last_day"))
    return None if days == (None, None) else days


def _filters(asked: dict[str, Any], mounted: Mounted) -> list[Any]:
    filters: list[Any] = [
        Equals(column, asked[column]) for column in mounted.workload.equals if column in asked
    ]
    for column in mounted.workload.ranges:
        low, high = asked.get(f"min_{column}"), asked.get(f"max_{column}")
        if low is not None or high is not None:
            filters.append(Range(column, low, high))
    return filters
