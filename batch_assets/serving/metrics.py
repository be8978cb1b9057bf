"""What the server measures of itself, for Prometheus."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from batch_assets.serving.answers import seconds

if TYPE_CHECKING:
    from batch_assets.serving.pool import Pool
    from batch_assets.serving.served import Served

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 10)
ROWS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)


class Metrics:
    """Measurements of one server. Labels are routes, sources, workloads; never an id.

    Args:
        served: whose state is told when it is asked for.
        pools: whose length is told.
    """

    def __init__(self, served: Sequence["Served"], pools: Sequence["Pool"]) -> None:
        self.registry = CollectorRegistry()
        self._realtime: dict[str, Histogram] = {}
        self._of: dict[tuple[str, str, int], tuple[Histogram, Counter]] = {}
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.registry.register(_State(served, pools))
        self.requests = Counter(
            "batch_assets_requests",
            "Requests by route and status.",
            ("route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "batch_assets_request_seconds",
            "Time to answer, by route and by where the answer came from.",
            ("route", "source"),
            buckets=BUCKETS,
            registry=self.registry,
        )

    def observer(self, workload: str) -> Callable[[str, float], None]:
        """Takes what scoring in real time measures of itself, by name: seconds or rows."""

        def observe(name: str, value: float) -> None:
            if name not in self._realtime:
                self._realtime[name] = Histogram(
                    f"batch_assets_realtime_{name}",
                    f"Scoring in real time: {name.replace('_', ' ')}.",
                    ("workload",),
                    buckets=BUCKETS if name.endswith("_seconds") else ROWS,
                    registry=self.registry,
                )
            self._realtime[name].labels(workload).observe(value)

        return observe

    def note(self, route: str, source: str, status: int, seconds: float) -> None:
        """A request that was answered."""
        at = (route, source, status)
        if at not in self._of:
            self._of[at] = self.seconds.labels(route, source), self.requests.labels(route, status)
        histogram, counter = self._of[at]
        histogram.observe(seconds)
        counter.inc()

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)


class _State(Collector):
    """What can be read off the workloads and queues at any moment."""

    def __init__(self, served: Sequence["Served"], pools: Sequence["Pool"]) -> None:
        self._served, self._pools = served, pools

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        waiting = _gauge("queue", "Requests that run or wait for a thread.", "queue")
        for pool in self._pools:
            waiting.add_metric([pool.name], pool.taken)
        yield waiting
        hits = CounterMetricFamily(
            "batch_assets_lookups",
            "Keys looked up, by the tier that had them; `not scored` and `missed`: none had.",
            labels=("workload", "tier"),
        )
        for one in self._served:
            for tier, count in one.lookups.counts.items():
                hits.add_metric([one.workload.name, tier], count)
        yield hits
        memory = _gauge("memory_bytes", "Memory in use, by what for.", "workload", "tier")
        for one in self._served:
            for tier, size in one.memory().items():
                memory.add_metric([one.workload.name, tier], size)
        yield memory
        gauges: dict[str, GaugeMetricFamily] = {}
        for one in self._served:
            for name, (meaning, value) in _of(one).items():
                gauge = gauges.setdefault(name, _gauge(name, meaning, "workload"))
                gauge.add_metric([one.workload.name], value)
        yield from gauges.values()


def _gauge(name: str, meaning: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"batch_assets_{name}", meaning, labels=labels)


def _of(served: "Served") -> dict[str, tuple[str, float]]:
    """Name -> meaning and value."""
    view = served.view
    found = {
        "view": ("Number of the state of the tables that is served.", view.number),
        "days": ("Days that are served.", len(view.days)),
        "days_in_memory": ("Days whose predictions are in memory.", len(view.blocks)),
        "unreadable_days": ("Days that cannot be read.", len(view.problems)),
        "view_failing": (
            "1 while the tables cannot be looked at.",
            float(bool(served.views.failure)),
        ),
    }
    if view.confirmed_at is not None:
        age = time.time() - seconds(view.confirmed_at)
        found["staleness_seconds"] = "Since predictions were last published.", age
    if served.realtime is not None:
        found["realtime_queue_rows"] = "Rows that wait to be scored.", served.realtime.waiting
    return found
