"""Requests for runs of daily partitions: which ranges, and when to ask for a failed one again."""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta

import dagster as dg

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
RUN_KEY = "dagster/run_key"
WAITS = (timedelta(minutes=5), timedelta(minutes=30))
"""How long to wait after the first failure, and after the second; a third one is the last."""


def range_tags(first: date, last: date) -> dict[str, str]:
    """Tags that make one run of a range of daily partitions."""
    return {RANGE_START: str(first), RANGE_END: str(last)}


def contiguous(days: Iterable[date]) -> list[tuple[date, date]]:
    """Days as ranges without gaps, ascending."""
    ranges: list[tuple[date, date]] = []
    for day in sorted(set(days)):
        if ranges and day - ranges[-1][1] == timedelta(days=1):
            ranges[-1] = (ranges[-1][0], day)
        else:
            ranges.append((day, day))
    return ranges


def newest_first(days: Iterable[date], most: int) -> list[tuple[date, date]]:
    """Days as ranges without gaps of ``most`` days at most, descending."""
    ranges: list[tuple[date, date]] = []
    for first, last in reversed(contiguous(days)):
        while (last - first).days >= most:
            ranges.append((last - timedelta(days=most - 1), last))
            last -= timedelta(days=most)
        ranges.append((first, last))
    return ranges


def due(
    instance: dg.DagsterInstance, requests: Sequence[dg.RunRequest], now: datetime | None = None
) -> list[dg.RunRequest] | dg.SkipReason:
    """Requests without those whose run has failed just now, or three times.

    Dagster starts one run for a run key, so that a request can be made at every look. One whose
    run failed is made under another key, once :data:`WAITS` have passed. A run that somebody
    stopped is not repeated.

    Args:
        requests: with run keys that stay the same for as long as what is asked for does.
        now: UTC.
    """
    now = now or datetime.now(UTC)
    found = [tried for request in requests if (tried := _next_try(instance, request, now))]
    if requests and not found:
        keys = ", ".join(str(request.run_key) for request in requests)
        return dg.SkipReason(f"failed, and asked for again 5 and 30 minutes later, if ever: {keys}")
    return found


def _next_try(
    instance: dg.DagsterInstance, request: dg.RunRequest, now: datetime
) -> dg.RunRequest | None:
    for number, wait in enumerate((*WAITS, timedelta.max)):
        key = f"{request.run_key}:again {number}" if number else str(request.run_key)
        runs = instance.get_run_records(dg.RunsFilter(tags={RUN_KEY: key}), limit=1)
        if not runs or runs[0].dagster_run.status != dg.DagsterRunStatus.FAILURE:
            return request.with_replaced_attrs(run_key=key)
        ended = runs[0].end_time or runs[0].update_timestamp.timestamp()
        if now.timestamp() < ended + wait.total_seconds():
            return None
    return None
