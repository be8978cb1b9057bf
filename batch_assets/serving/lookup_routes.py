"""Predictions by key and by entity."""

from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Path, Query, Request, Response

from batch_assets.serving.answers import answer
from batch_assets.serving.fields import LONGEST_ID, MOST_ROWS, Moment
from batch_assets.serving.mounted import Mounted
from batch_assets.serving.view import View


def lookup_routes(mounted: Mounted) -> APIRouter:
    """``predictions/{id}``, ``predictions:batch``, and ``{entity}/{id}`` of each entity."""
    router = mounted.router()
    key, models = mounted.workload.key, mounted.models
    of_key, ids_model = models.id_of(key), models.ids

    @router.get(
        "/predictions/{id}",
        response_model=models.prediction,
        summary="One prediction",
        description=f"The prediction of one {key}.",
    )
    async def prediction(request: Request, id: Annotated[of_key, Path()]) -> Response:  # type: ignore[valid-type]
        async def ask(view: View) -> Response:
            found = (await mounted.find(view, [id])).get(id)
            if found is None:
                raise mounted.not_scored(key)
            return answer(mounted.rows(request, view, [found])[0])

        return await mounted.of_one_view(ask)

    @router.post(
        "/predictions:batch",
        response_model=models.predictions,
        summary="Many predictions",
        description=f"The predictions of up to 1,000 {key}s, all of one state of the tables.",
    )
    async def predictions(request: Request, body: ids_model) -> Response:  # type: ignore[valid-type]
        ids = list(dict.fromkeys(body.ids))  # type: ignore[attr-defined]

        async def ask(view: View) -> Response:
            found = await mounted.find(view, ids)
            rows = mounted.rows(request, view, [found[i] for i in ids if i in found])
            return answer(
                {
                    "predictions": rows,
                    "missing": [i for i in ids if i not in found],
                    "stale": any(row["stale"] for row in rows),
                    "view": view.number,
                }
            )

        return await mounted.of_one_view(ask)

    for name, column in mounted.workload.entities.items():
        _entity_route(router, mounted, name, column)
    return router


def _entity_route(router: APIRouter, mounted: Mounted, name: str, column: str) -> None:
    of_column = mounted.models.id_of(column)

    @router.get(
        f"/{name}/{{id}}",
        response_model=mounted.models.course(column),
        operation_id=f"{mounted.workload.name}_{name}",
        summary=f"The course of one of the {name}",
        description=f"The risk of one {column} now, and its predictions, newest first.",
    )
    async def entity(
        request: Request,
        id: Annotated[of_column, Path()],  # type: ignore[valid-type]
        limit: Annotated[int, Query(ge=1, le=MOST_ROWS, description="Rows a page.")] = 100,
        before: Annotated[
            Moment | None,
            Query(description="Only predictions about an earlier moment."),
        ] = None,
        before_id: Annotated[
            str,
            Query(max_length=LONGEST_ID, description="At `before` itself, only smaller keys."),
        ] = "",
    ) -> Response:
        page = None if before is None else (before.replace(tzinfo=None), before_id)

        async def ask(view: View) -> Response:
            found = await mounted.course(view, column, id, limit + 1, page)
            if not found:
                raise mounted.not_scored(column)
            rows = mounted.rows(request, view, found)
            more, rows = len(rows) > limit, rows[:limit]
            return answer(
                {
                    column: id,
                    "latest": rows[0],
                    "highest": max(rows, key=lambda row: row[mounted.workload.score]),
                    "predictions": rows,
                    "next": _next(request, mounted, id, rows[-1], limit) if more else None,
                    "stale": rows[0]["stale"],
                    "view": view.number,
                }
            )

        return await mounted.of_one_view(ask)


def _next(request: Request, mounted: Mounted, id: Any, row: dict[str, Any], limit: int) -> str:
    time, key = row[mounted.workload.time], row[mounted.workload.key]
    query = urlencode({"limit": limit, "before": f"{time:%Y-%m-%dT%H:%M:%S.%fZ}", "before_id": key})
    path = request.scope["route"].path.replace("{id}", quote(str(id), safe=""))
    return f"{path}?{query}"
