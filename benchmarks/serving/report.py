"""From what was measured to `serving.md`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.harness import Result

MEMORY, DISK = "ours, all in memory", "ours, little memory"
MIB = 2**20
Figures = Mapping[str, Any]


@dataclass(frozen=True)
class Goal:
    """What is to be reached.

    Args:
        measured: finds the figures in the results; a KeyError where it was not measured.
        limits: of each figure the most; of recall the least.
    """

    what: str
    shown: str
    measured: Callable[[Figures], tuple[float, ...]]
    reached: Callable[..., bool]
    unit: str = "ms"


def _latencies(system: str, case: str, *names: str) -> Callable[[Figures], tuple[float, ...]]:
    return lambda found: tuple(found[system][case][f"{name}_ms"] for name in names)


def beside(found: Figures) -> float:
    """Bytes that the process takes with no predictions in memory."""
    return float(found[DISK]["memory without any predictions"]["resident_bytes"])


def _of_predictions(system: str) -> Callable[[Figures], tuple[float, ...]]:
    return lambda found: ((found[system]["memory"]["resident_bytes"] - beside(found)) / MIB,)


GOALS = (
    Goal(
        "look-ups from memory, 3,000 a second: p50, p99",
        "under 1 ms, under 5 ms",
        _latencies(MEMORY, "lookups", "p50", "p99"),
        lambda p50, p99: p50 < 1 and p99 < 5,
    ),
    Goal(
        "look-ups from disk, 200 a second: p99",
        "under 20 ms",
        _latencies(DISK, "lookups", "p99"),
        lambda p99: p99 < 20,
    ),
    Goal(
        "the same, its files not in the system's memory: p99",
        "under 20 ms",
        _latencies(DISK, "lookups, files not in the system's memory", "p99"),
        lambda p99: p99 < 20,
    ),
    Goal(
        "similarity in memory, 100 a second: p50; recall@10",
        "under 2 ms; .98",
        lambda found: (found[MEMORY]["searches"]["p50_ms"], found[MEMORY]["recall"]),
        lambda p50, recall: p50 < 2 and recall >= 0.98,
    ),
    Goal(
        "score of one transaction, 200 a second: p99",
        "under 25 ms",
        _latencies(MEMORY, "score", "p99"),
        lambda p99: p99 < 25,
    ),
    Goal(
        "restart to ready",
        "under 5 s",
        lambda found: (max(found[MEMORY]["ready_seconds"]),),
        lambda seconds: seconds < 5,
        "s",
    ),
    Goal(
        "memory taken for predictions and vectors, bound 4 GB",
        "within 3,815 MiB",
        _of_predictions(MEMORY),
        lambda size: size <= 4e9 / MIB,
        "MiB",
    ),
    Goal(
        "the same, bound 256 MB",
        "within 244 MiB",
        _of_predictions(DISK),
        lambda size: size <= 256e6 / MIB,
        "MiB",
    ),
)
TITLES = {
    MEMORY: "ours, all in memory (4 GB)",
    DISK: "ours, little memory (256 MB)",
    "redis": "Redis, FastAPI",
    "feast": "Feast over Redis",
    "lancedb": "LanceDB, FastAPI",
}
NOTES = """\
Each system has one core for all its processes, wrk the other one (`taskset`). Systems are measured
one after another in one run; of several runs of each load it is the median of each figure. Ids,
vectors and order are the same for all. Before it is loaded, each system's answers are compared with
the tables: every column of ten rows. All listen on loopback, with connections kept open.

wrk sends at a constant rate by a script (`load.lua`): what is due goes out on the first of 32
connections that is free, timed to the millisecond, so that at 3,000 a second three come at once. A
request's time runs from sending it until its answer is whole. While all connections wait, nothing
is sent that is due ("coordinated omission"); wrk puts back what its connections would have sent
meanwhile, and `late` says how long the longest was kept waiting unsent.

Our server runs as it comes, access log and measurements included, over a home that the pipeline
made of simulated deliveries with a model trained on them; its answers carry source, freshness and
known label beside the row. Exact neighbours come from comparing every stored vector; a neighbour
counts for the recall if it is no farther than the exact tenth."""
PEERS = """\
- Redis: Debian's server, each row as JSON under its key, given on as it is by FastAPI (redis-py
  with hiredis, a pool over a Unix socket, uvicorn with uvloop and httptools, no access log).
- Feast: its own feature server (`feast serve`, one worker that is not started anew after some
  requests, no access log) over a Redis online store, its newest {feast_rows:,}
  rows; it is loaded at {feast_rate} a second.
- LanceDB: one table of all rows and vectors, BTREE on the key, IVF_FLAT with the root of the rows
  as lists, compacted; its asynchronous interface behind FastAPI, as few probes ({probes}) as reach
  the recall; look-ups at 200 a second, as those from our store."""


def markdown(results: Figures) -> str:
    """Tables of what was measured, and how."""
    found = results["systems"]
    sizes = {"feast_rows": results["feast_rows"], "feast_rate": results["feast_rate"]}
    probes = found.get("lancedb", {}).get("probes", "none measured")
    parts = [
        f"{results['rows']:,} predictions of {results['days']} days, each with a vector of 64 "
        f"floats. {results['runs']} runs of {results['seconds']} s a load.",
        "## Against the goals",
        _goals(found),
        "## Look-ups and searches",
        _loads(found),
        "## Memory",
        _memory(found),
        "## How it was measured",
        NOTES,
        PEERS.format(**sizes, probes=probes),
        f"Load of the machine before it: {results['load_before']}. Beside ours: "
        + ", ".join(f"{name} {of}" for name, of in results["peer_versions"].items())
        + ".",
    ]
    return "\n\n".join(part for part in [*parts, *results.get("remarks", ())] if part)


def _goals(found: Figures) -> str:
    rows = []
    for goal in GOALS:
        try:
            values = goal.measured(found)
        except KeyError:
            rows.append([goal.what, goal.shown, "not measured", ""])
            continue
        shown = "; ".join(_number(value) for value in values)
        reached = "reached" if goal.reached(*values) else "not reached"
        rows.append([goal.what, goal.shown, f"{shown} {goal.unit}", reached])
    ready = found.get(MEMORY, {}).get("loaded_seconds")
    after = f"\n\nEverything was in memory {ready:.0f} s after the start." if ready else ""
    return table(["", "goal", "measured", ""], rows) + after


def _loads(found: Figures) -> str:
    rows = []
    for system, cases in found.items():
        title = TITLES.get(system, system)
        if "error" in cases:
            rows.append([title, f"not measured: {cases['error']}"])
            continue
        for case, one in cases.items():
            if isinstance(one, Mapping) and "p50_ms" in one:
                figures = (one[f"{name}_ms"] for name in ("p50", "p90", "p99", "p999", "late"))
                recall = cases["recall"] if case.startswith("searches") else None
                failed = one["failed"] + (0 if case == "not scored" else one["not_2xx"])
                shown = [f"{one['rate']:,.0f}", *map(_number, figures)]
                rows.append(
                    [title, case, *shown, "" if recall is None else f"{recall:.3f}", failed or ""]
                )
    head = ["system", "load", "a second", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "late ms"]
    return table([*head, "recall@10", "errors"], rows)


def _memory(found: Figures) -> str:
    rows = []
    for system, cases in found.items():
        for case, one in cases.items():
            if isinstance(one, Mapping) and "resident_bytes" in one:
                title = TITLES.get(system, system)
                what = case.removeprefix("memory").strip()
                shown = [f"{one[name] / MIB:,.0f}" for name in ("resident_bytes", "of_files_bytes")]
                rows.append([f"{title}: {what}" if what else title, *shown])
    return table(["resident, all processes of a system", "MiB", "of it mapped files"], rows)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table, all columns but the first two to the right."""
    rule = ["---", "---", *["---:"] * (len(head) - 2)]
    lines = [head, rule, *([*row, *[""] * (len(head) - len(row))] for row in rows)]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def document(results: Result) -> Result:
    """The results with each goal's answer."""
    goals = {}
    for goal in GOALS:
        try:
            values = goal.measured(results["systems"])
        except KeyError:
            continue
        goals[goal.what] = {
            "goal": goal.shown,
            "measured": [round(value, 4) for value in values],
            "reached": goal.reached(*values),
        }
    return {**results, "goals": goals}
