"""What takes longest: alerts of a day, why a score is as it is, the map of all embeddings."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from batch_assets.serving.answers import answer
from batch_assets.serving.embedding_map import EmbeddingMap
from batch_assets.serving.fields import MOST_ROWS, AnyRow, Day
from batch_assets.serving.mounted import Mounted
from batch_assets.serving.problems import Problem
from batch_assets.serving.stored import ViewGone
from batch_assets.serving.view import View

MOST_POINTS = 5_000


def report_routes(mounted: Mounted) -> APIRouter:
    """``alerts``, ``predictions/{id}/explanation``, ``map`` and ``map:batch``, where offered."""
    router = mounted.router()
    if mounted.workload.alerts:
        _alerts(router, mounted)
    if mounted.workload.explain:
        _explanation(router, mounted)
    _map(router, mounted)
    return router


def _alerts(router: APIRouter, mounted: Mounted) -> None:
    workload = mounted.workload
    alerts = workload.alerts
    assert alerts

    @router.get(
        "/alerts",
        response_model=mounted.models.alerts,
        summary="Alerts of a day",
        description="The rows of a day that ask for action, best first, with their reasons.",
    )
    async def alerts_of_day(
        request: Request,
        day: Annotated[Day | None, Query(description="By default the newest.")] = None,
        limit: Annotated[int, Query(ge=1, le=MOST_ROWS, description="The most rows.")] = 100,
    ) -> Response:
        async def ask(view: View) -> Response:
            wanted = day or max(view.days, default=None)
            if wanted not in view.days:
                raise mounted.not_scored("day")
            rows = await mounted.reports.run(alerts, view.predictions, wanted, limit)
            found = await mounted.find(view, [row[workload.key] for row in rows])
            shown = mounted.rows(request, view, [found[row[workload.key]] for row in rows])
            merged = [{**row, **one} for row, one in zip(rows, shown, strict=True)]
            return answer({"day": wanted, "alerts": merged, **mounted.of_view(view)})

        return await mounted.of_one_view(ask)


def _explanation(router: APIRouter, mounted: Mounted) -> None:
    workload = mounted.workload
    explain, of_key = workload.explain, mounted.models.id_of(workload.key)
    assert explain

    @router.get(
        "/predictions/{id}/explanation",
        response_model=mounted.models.explanation,
        summary="Why a score is as it is",
        description=f"What raised and lowered the score of one {workload.key}.",
    )
    async def explanation(request: Request, id: Annotated[of_key, Path()]) -> Response:  # type: ignore[valid-type]
        async def ask(view: View) -> Response:
            found = (await mounted.find(view, [id])).get(id)
            if found is None:
                raise mounted.not_scored(workload.key)
            if found.source == "realtime":
                raise Problem(
                    "not-offered",
                    "this was scored in real time: it can be explained once a batch has scored it",
                )
            row = mounted.rows(request, view, [found])[0]
            reasons = mounted.answers.in_utc(await mounted.reports.run(explain, id))
            if reasons.get("scored_at", row["scored_at"]) != row["scored_at"]:
                raise ViewGone("the day was scored anew meanwhile")
            return answer({**row, **reasons})

        return await mounted.of_one_view(ask)


def _map(router: APIRouter, mounted: Mounted) -> None:
    embedding_map, ids_model = EmbeddingMap(mounted.served), mounted.models.ids

    @router.get(
        "/map",
        response_model=AnyRow,
        summary="Map of the embeddings",
        description="Predictions as points of a plane: what is near there is alike.",
    )
    async def points(
        size: Annotated[int, Query(ge=1, le=MOST_POINTS, description="The most points.")] = 2_000,
    ) -> Response:
        async def ask(view: View) -> Response:
            found = await mounted.reports.run(embedding_map.sample, view, size)
            return answer({**mounted.of_view(view), **found})

        return await mounted.of_one_view(ask)

    @router.post(
        "/map:batch",
        response_model=AnyRow,
        summary="Where some are on the map",
        description=f"The points of up to 1,000 {mounted.workload.key}s.",
    )
    async def places(body: ids_model) -> Response:  # type: ignore[valid-type]
        ids = body.ids  # type: ignore[attr-defined]

        async def ask(view: View) -> Response:
            found = await mounted.reports.run(embedding_map.locate, view, ids)
            return answer({**mounted.of_view(view), **found})

        return await mounted.of_one_view(ask)
