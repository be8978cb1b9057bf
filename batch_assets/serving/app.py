"""The HTTP application: every workload under its name, behind the same gate."""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TextIO

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from batch_assets.serving import problems
from batch_assets.serving.answers import Answers
from batch_assets.serving.catalogue_routes import catalogue_routes
from batch_assets.serving.gate import Gate
from batch_assets.serving.limits import App, Bounded, Limits
from batch_assets.serving.lookup_routes import lookup_routes
from batch_assets.serving.memory_answers import MemoryAnswers
from batch_assets.serving.metrics import Metrics
from batch_assets.serving.models import Models
from batch_assets.serving.mounted import Mounted
from batch_assets.serving.observe import AccessLog, Observed
from batch_assets.serving.openapi import describe
from batch_assets.serving.pages import page_routes
from batch_assets.serving.pool import Pool
from batch_assets.serving.report_routes import report_routes
from batch_assets.serving.score_routes import score_routes
from batch_assets.serving.search_routes import search_routes
from batch_assets.serving.security import Keys
from batch_assets.serving.served import Served
from batch_assets.serving.status_routes import status_routes
from batch_assets.settings import Settings

LOOKUP_THREADS, SEARCH_THREADS, REPORT_THREADS = 4, 2, 1
WAITING = 64


class Application(FastAPI):
    """FastAPI behind what every request passes first, and what the most frequent one needs."""

    front: App

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await self.front(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    async def routed(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer by the router."""
        await super().__call__(scope, receive, send)


def create_app(
    served: Sequence[Served],
    settings: Settings,
    *,
    limits: Limits | None = None,
    hosts: Collection[str] | None = None,
    keys: Keys | None = None,
    access_log: TextIO | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> Application:
    """The application over some workloads; it starts and stops them.

    Args:
        served: what is mounted, each below ``/v1/<name>``.
        hosts: names that the Host header may have; None: any.
        keys: API keys that requests have to show; None: anybody may ask.
        access_log: where a line a request is written.
        stopping: whether the server takes no further work.
    """
    access = AccessLog(access_log)
    pools = (
        Pool("store", LOOKUP_THREADS, WAITING),
        Pool("search", SEARCH_THREADS, WAITING),
        Pool("reports", REPORT_THREADS, WAITING),
    )

    metrics = Metrics(served, pools)
    for each in served:
        each.observe = metrics.observer(each.workload.name)

    @asynccontextmanager
    async def lifespan(of: FastAPI) -> AsyncIterator[None]:
        for one in served:
            await run_in_threadpool(one.start)
        yield
        for pool in pools:
            await run_in_threadpool(pool.stop)
        for one in served:
            await run_in_threadpool(one.stop)
        access.flush()

    app = Application(
        title="Batch results, served",
        version=_version(),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    problems.install(app)
    mounted = [
        Mounted(
            one,
            Answers(one.workload, settings.freshness_hours),
            Models(one.workload),
            *pools,
        )
        for one in served
    ]
    for one in mounted:
        for routes in (lookup_routes, search_routes, score_routes, report_routes):
            app.include_router(routes(one))
    app.include_router(catalogue_routes(mounted, settings.freshness_hours, settings.dagster_url))
    app.include_router(status_routes(mounted, stopping, metrics))
    app.include_router(page_routes())
    describe(app, keys is not None)
    routed = Bounded(app.routed, limits or Limits())
    app.front = Observed(Gate(MemoryAnswers(routed, mounted), hosts, keys), metrics, access)
    return app


def _version() -> str:
    try:
        return version("batch_assets")
    except PackageNotFoundError:
        return "0"
