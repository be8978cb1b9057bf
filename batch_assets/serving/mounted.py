"""A workload as the routes see it: whom to ask, how to answer, what to count."""

import heapq
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from fastapi import APIRouter, Request

from batch_assets.serving.answers import Answers
from batch_assets.serving.blocks import Value
from batch_assets.serving.lookup import Found
from batch_assets.serving.models import Models
from batch_assets.serving.pool import Pool
from batch_assets.serving.problems import Problem
from batch_assets.serving.served import Served
from batch_assets.serving.stored import ViewGone
from batch_assets.serving.view import View
from batch_assets.serving.workload import Workload

Row = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Mounted:
    """One workload under its path.

    Args:
        lookups: threads that read the store.
        searches: threads that compare vectors.
        reports: threads for what takes longest: alerts, explanations, maps.
    """

    served: Served
    answers: Answers
    models: Models
    lookups: Pool
    searches: Pool
    reports: Pool

    @property
    def workload(self) -> Workload:
        return self.served.workload

    def router(self) -> APIRouter:
        """For routes below the workload's path."""
        return APIRouter(prefix=f"/v1/{self.workload.name}", tags=[self.workload.name])

    async def of_one_view(self, ask: Callable[[View], Awaitable[T]]) -> T:
        """An answer from the newest view; a newer one, if its files were removed meanwhile."""
        try:
            return await ask(self.served.view)
        except ViewGone:
            return await ask(await self.lookups.run(self.served.views.refresh))

    async def find(self, view: View, keys: Sequence[Value]) -> dict[Value, Found]:
        """Predictions by key: what a batch scored, else what this server scored."""
        found, realtime = await self.scored(view, keys), self.served.realtime
        if realtime is not None:
            for key in keys:
                if key not in found and (one := realtime.get(key)) is not None:  # type: ignore[arg-type]
                    found[key] = one
        return found

    async def scored(self, view: View, keys: Sequence[Value]) -> dict[Value, Found]:
        """What a batch scored; no thread is waited for unless the store has to be read."""
        lookups = self.served.lookups
        found: dict[Value, Found] = {
            key: one for key in keys if (one := lookups.in_memory(view, key)) is not None
        }
        if len(found) < len(keys):
            rest = [key for key in keys if key not in found and lookups.maybe(view, key)]
            if rest:
                found |= await self.lookups.run(lookups.from_store, view, rest)
        return found

    async def course(
        self,
        view: View,
        column: str,
        value: Value,
        limit: int,
        before: tuple[datetime, Value] | None,
    ) -> list[Found]:
        """The newest predictions of an entity; those of real time give way to the batch's."""
        lookups, realtime = self.served.lookups, self.served.realtime
        found: list[Found] = await self.lookups.run(
            lookups.of_entity, view, column, value, limit, before
        )
        if realtime is not None:
            own = [one for one in realtime.of_entity(column, value) if self._is_before(one, before)]
            keys = [one.row[self.workload.key] for one in own]
            batch = await self.scored(view, keys)
            own = [one for one in own if one.row[self.workload.key] not in batch]
            found = heapq.nlargest(limit, [*found, *own], key=self._order)
        return found

    def _order(self, found: Found) -> tuple[Any, Any]:
        return found.row[self.workload.time], found.row[self.workload.key]

    def _is_before(self, found: Found, before: tuple[datetime, Value] | None) -> bool:
        return before is None or self._order(found) < before

    def rows(self, request: Request, view: View, found: Sequence[Found]) -> list[Row]:
        """Rows as they are answered; their source is that of the request, for log and metrics."""
        now = time.time()
        sources = {one.source for one in found}
        if sources:
            request.scope["source"] = sources.pop() if len(sources) == 1 else "several"
        labels = self.workload.known([one.row[self.workload.key] for one in found])
        return [
            self.answers.row(one, view, now, labels.get(one.row[self.workload.key]))
            for one in found
        ]

    def not_scored(self, column: str) -> Problem:
        """Nobody has scored what was asked for."""
        return Problem(
            "not-scored",
            f"there is no prediction of this {column}: it is unknown, or its day is still to be "
            "scored; /v1/freshness names the newest day",
        )

    def neighbours(self, request: Request, view: View, found: Any) -> Row:
        """A search's result as it is answered."""
        request.scope["source"] = found.source
        labels = self.workload.known([row[self.workload.key] for row in found.rows])
        rows = [
            {**self.answers.in_utc(row), "label": labels.get(row[self.workload.key])}
            for row in found.rows
        ]
        return {
            "neighbours": rows,
            "exact": found.exact,
            "index_coverage": found.index_coverage,
            "in_memory_days": found.in_memory_days,
            "source": found.source,
            "other_model_days": found.other_model_days,
            **self.of_view(view),
            "model_version": found.model_version,
        }

    def of_view(self, view: View) -> Row:
        """Provenance of an answer about many rows."""
        return self.answers.of_view(view, time.time())
