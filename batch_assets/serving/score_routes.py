"""Rows that no batch has scored, scored now."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from batch_assets.serving.answers import answer
from batch_assets.serving.mounted import Mounted
from batch_assets.serving.problems import Problem, busy
from batch_assets.serving.realtime import Conflict, QueueFull
from batch_assets.serving.workload import RowRefused


def score_routes(mounted: Mounted) -> APIRouter:
    """``score``, if the workload can score in real time."""
    router = mounted.router()
    if mounted.workload.request is None:
        return router
    request_model = mounted.models.to_score

    @router.post(
        "/score",
        response_model=mounted.models.scored,
        summary="Score now",
        description="Score up to 100 rows that no batch has seen, by the same features and model. "
        "The same row again gets the same answer. If some rows are refused, the others are scored "
        "all the same.",
    )
    async def score(request: Request, body: request_model) -> Response:  # type: ignore[valid-type]
        rows: list[BaseModel] = body.rows  # type: ignore[attr-defined]
        view = mounted.served.view
        keys = [getattr(row, mounted.workload.key) for row in rows]
        found = await mounted.scored(view, keys)
        new = [n for n, key in enumerate(keys) if key not in found]
        results = await _scored(mounted, [rows[n] for n in new])
        refused = {n: r for n, r in zip(new, results, strict=True) if isinstance(r, BaseException)}
        if refused:
            raise _problem(refused)
        found.update({keys[n]: r for n, r in zip(new, results, strict=True)})
        shown = mounted.rows(request, view, [found[key] for key in keys])
        return answer({"predictions": shown, "view": view.number})

    return router


async def _scored(mounted: Mounted, rows: list[BaseModel]) -> list[Any]:
    """What was found of each row, or the error that was raised of it."""
    realtime = mounted.served.realtime
    if realtime is None:
        raise Problem(
            "starting",
            "no model is live yet: `batch-assets run` trains one, this server notices by itself",
            headers={"Retry-After": "10"},
        )
    if realtime.waiting + len(rows) > mounted.served.settings.serving_queue:
        raise busy(f"{realtime.waiting} rows wait to be scored")
    try:
        futures = [asyncio.wrap_future(realtime.submit(row)) for row in rows]
    except QueueFull:
        raise busy("too many rows wait to be scored") from None
    return await asyncio.gather(*futures, return_exceptions=True)


def _problem(refused: dict[int, BaseException]) -> Problem:
    errors = []
    for n, why in refused.items():
        if isinstance(why, RowRefused):
            errors.append({"field": f"body.rows[{n}].{why.field}", "detail": why.detail})
        elif isinstance(why, Conflict):
            return Problem(
                "conflict",
                f"body.rows[{n}] was scored with other content before: give it another key, or "
                "the same content",
            )
        else:
            raise why
    detail = f"{len(errors)} of the rows cannot be scored: see errors"
    return Problem("invalid", detail, errors=errors)
