"""From single runs to `scoring.json` and `scoring.md`."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.scoring.trial import Trial

GOALS = {
    "share of the ceiling": 0.85,
    "speed, times daft": 2.0,
    "speed, times ray_data": 4.0,
    "speed, times spark": 8.0,
    "memory, share of daft": 0.333,
    "memory, share of ray_data": 0.333,
    "memory, share of spark": 0.333,
}
STAGES = ("decode", "products", "encode")
Rates = Mapping[str, Mapping[str, float]]


def overlap_bound(cores: int, rates: Sequence[float]) -> float:
    """Rows a second that stages which share the cores can do at most.

    Args:
        rates: rows a CPU-second of each stage.

    A row costs the sum of 1 / rate CPU-seconds; stages that overlap perfectly keep all cores busy,
    and nothing else runs: cores / sum(1 / rate).
    """
    return cores / sum(1 / rate for rate in rates)


def ceiling(runs: Sequence[Rates], cores: int) -> dict[str, Any]:
    """The bound, from the fastest way of each stage (by the median of the runs)."""
    ways = {
        stage: {name: statistics.median(run[stage][name] for run in runs) for name in found}
        for stage, found in runs[0].items()
    }
    best = {stage: max(found, key=lambda name: found[name]) for stage, found in ways.items()}
    rates = {stage: ways[stage][name] for stage, name in best.items()}
    return {
        "rows_per_second": round(overlap_bound(cores, [rates[stage] for stage in STAGES])),
        "rows_per_second_with_the_network_as_torch_runs_it": round(
            overlap_bound(cores, [rates["decode"], rates["network"], rates["encode"]])
        ),
        "fastest": best,
        "rows_per_cpu_second": {
            stage: {name: round(rate) for name, rate in found.items()}
            for stage, found in ways.items()
        },
    }


def engine(trials: Sequence[Trial], setting: str) -> dict[str, Any]:
    """Medians of an engine's runs, and its highest peak."""
    return {
        "rows_per_second": round(statistics.median(trial.rows_per_second for trial in trials)),
        "peak_bytes": max(trial.peak_bytes for trial in trials),
        "startup_seconds": round(statistics.median(trial.startup_seconds for trial in trials), 2),
        "bytes_written": trials[-1].bytes_written,
        "setting": setting,
        "seconds_of_runs": [round(trial.seconds, 3) for trial in trials],
        "startup_seconds_of_runs": [round(trial.startup_seconds, 2) for trial in trials],
        "peak_bytes_of_runs": [trial.peak_bytes for trial in trials],
    }


def compared(engines: Mapping[str, Mapping[str, Any]], ceiling_rate: float) -> dict[str, Any]:
    """Ours against the others, and against the goals."""
    ours = engines.get("ours", {})
    if "rows_per_second" not in ours:
        return {}
    measured = {k: v for k, v in engines.items() if k != "ours" and "rows_per_second" in v}
    found = {"share of the ceiling": ours["rows_per_second"] / ceiling_rate}
    for name, other in measured.items():
        found[f"speed, times {name}"] = ours["rows_per_second"] / other["rows_per_second"]
        found[f"memory, share of {name}"] = ours["peak_bytes"] / other["peak_bytes"]
    return {
        name: {
            "measured": round(value, 3),
            "goal": GOALS.get(name),
            "reached": _reached(name, value),
        }
        for name, value in found.items()
    }


def _reached(name: str, value: float) -> bool | None:
    goal = GOALS.get(name)
    if goal is None:
        return None
    return value <= goal if name.startswith("memory") else value >= goal


def markdown(document: Mapping[str, Any]) -> str:
    """The whole report."""
    machine = document["machine"]
    memory = machine["memory_bytes"] / 2**30
    packages = ", ".join(f"{k} {v}" for k, v in document["versions"].items())
    peers = ", ".join(f"{k} {v}" for k, v in document["peer_versions"].items())
    parts = [
        "# scoring",
        f"{document['rows']:,} rows of 64 float32 features, a network 64-256-128-64-1, scores and "
        "embeddings of 64 floats written out; the same input and the same work for all. Each "
        "engine in processes of its own, by turns; medians of "
        f"{document['runs']} runs.",
        _engines(document),
        "Start-up is from the start of the process until the last worker has loaded its model: "
        "imports, cluster, JVM and a first small sample, where that starts workers. Rows that an "
        "engine has read by then cost it nothing. Memory is the highest sum of the proportional "
        "set sizes of all processes of the engine, ten times a second. All write Parquet with "
        "zstd, at level 1 where one can say (Daft has no setting for it). Every output was "
        "checked: each row once, scores and embeddings within 1e-5.",
        "Python, pyarrow, torch and the model alone, which each of them must have in memory, take "
        f"{_mib(document['imports_alone_bytes'])} MiB.",
        "## Against the goals",
        _comparison(document["compared"]),
        "## The ceiling",
        _ceiling(document),
        "## What else ours reads and writes",
        _variants(document["variants"]),
        "## Settings of the peers",
        _settings(document),
        f"Measured on {document['date']} by `{document['command']}`: {machine['cpu']}, "
        f"{machine['cores']} cores, {memory:.0f} GiB, {machine['system']}; load before it "
        f"{document['load_before']:.1f}.",
        f"Ours with {packages}. Peers with {peers or 'nothing installed'}.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table, all columns but the first one to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f}"


def _engines(document: Mapping[str, Any]) -> str:
    bound = document["ceiling_rows_per_second"]
    head = ["engine", "rows a second", "of the ceiling", "peak MiB", "start-up s", "MiB written"]
    rows: list[list[object]] = [["ceiling", f"{bound:,}", "", "", "", ""]]
    for name, found in document["engines"].items():
        if "error" in found:
            rows.append([name, f"not measured: {found['error']}", "", "", "", ""])
            continue
        rows.append(
            [
                name,
                f"{found['rows_per_second']:,}",
                f"{found['rows_per_second'] / bound:.2f}",
                _mib(found["peak_bytes"]),
                f"{found['startup_seconds']:.1f}",
                _mib(found["bytes_written"]),
            ]
        )
    return table(head, rows)


def _comparison(found: Mapping[str, Mapping[str, Any]]) -> str:
    answers = {True: "yes", False: "no", None: ""}
    rows = [
        [name, f"{line['measured']:.2f}", line["goal"] or "", answers[line["reached"]]]
        for name, line in found.items()
    ]
    return table(["ours", "measured", "goal", "reached"], rows)


def _ceiling(document: Mapping[str, Any]) -> str:
    found, cores = document["ceiling"], document["machine"]["cores"]
    rates = found["rows_per_cpu_second"]
    rows = [
        [
            stage,
            name,
            f"{rate:,}",
            f"{1e6 / rate:.2f}",
            "x" if name == found["fastest"][stage] else "",
        ]
        for stage, ways in rates.items()
        for name, rate in sorted(ways.items(), key=lambda way: -way[1])
    ]
    with_network = found["rows_per_second_with_the_network_as_torch_runs_it"]
    return (
        "Each stage alone, on all cores at once. Stages that share the cores and overlap "
        "perfectly, with nothing else to do, are bound by cores / (1/decode + 1/products + "
        f"1/encode), which with the fastest way of each and {cores} cores is "
        f"{found['rows_per_second']:,} rows a second. With the whole network as torch runs it "
        f"(bias, activation, memory) instead of its products alone it is {with_network:,}.\n\n"
        + table(["stage", "way", "rows a CPU-second", "CPU-µs a row", "fastest"], rows)
    )


def _variants(found: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        [name, f"{one['rows_per_second']:,}", _mib(one["bytes_written"]), _mib(one["peak_bytes"])]
        if "error" not in one
        else [name, one["error"], "", ""]
        for name, one in found.items()
    ]
    return table(["ours", "rows a second", "MiB written", "peak MiB"], rows)


def _settings(document: Mapping[str, Any]) -> str:
    rows = [
        [f"{name}: {setting}", _tried(rate), "x" if setting == chosen else ""]
        for name, tried in document["settings_tried"].items()
        for chosen in [document["engines"].get(name, {}).get("setting")]
        for setting, rate in tried.items()
    ]
    head = ["setting", "rows a second", "used above"]
    return table(head, rows) if rows else ""


def _tried(rate: float | str) -> str:
    return rate if isinstance(rate, str) else f"{rate:,.0f}"
