"""Runs one measurement in processes of its own, and writes down what came out.

A function to measure gives :class:`Work`: how many rows, in how many seconds. What it prepared
before is not measured, but counts into the peak of resident memory, so that large preparations
belong into another process (:func:`in_own_process`).
"""

import importlib.metadata
import json
import multiprocessing
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")
PACKAGES = (
    "batch_assets",
    "duckdb",
    "deltalake",
    "pyarrow",
    "torch",
    "lancedb",
    "faiss-cpu",
    "usearch",
    "dagster",
)
RUNS = 3
Result = dict[str, Any]


@dataclass(frozen=True)
class Work:
    """What one run did; ``more`` is kept of the last run."""

    rows: int
    seconds: float
    more: Mapping[str, Any] = field(default_factory=dict)


class Watch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._started = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._started


def measure(function: Callable[..., Work], *arguments: object, runs: int = RUNS) -> Result:
    """Median seconds of several runs, and the highest peak of resident memory among them."""
    done = [in_own_process(_with_peak, function, *arguments) for _ in range(runs)]
    works: list[Work] = [work for work, _, _ in done]
    seconds = statistics.median(work.seconds for work in works)
    return {
        "rows": works[-1].rows,
        "seconds": round(seconds, 3),
        "rows_a_second": round(works[-1].rows / seconds),
        "peak_rss_bytes": max(peak for _, peak, _ in done),
        "rss_bytes_before": min(before for _, _, before in done),
        "seconds_of_runs": [round(work.seconds, 3) for work in works],
        **works[-1].more,
    }


def _with_peak(function: Callable[..., Work], *arguments: object) -> tuple[Work, int, int]:
    before = peak_bytes()
    return function(*arguments), peak_bytes(), before


def peak_bytes() -> int:
    """Most resident memory that this process had."""
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def in_own_process(function: Callable[..., Any], *arguments: object) -> Any:
    """The function's result, from a new process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


@contextmanager
def data_home(folder: Path) -> Iterator[Path]:
    """A folder as data home, with no setting of the caller's environment."""
    ours = {k: v for k, v in os.environ.items() if k.startswith("BATCH_ASSETS_")}
    for name in ours:
        del os.environ[name]
    os.environ["BATCH_ASSETS_HOME"] = str(folder)
    try:
        yield folder
    finally:
        del os.environ["BATCH_ASSETS_HOME"]
        os.environ.update(ours)


def machine() -> dict[str, Any]:
    """What it ran on, with nothing that would name the machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": _cpu_model(),
        "cores": cores,
        "memory_bytes": memory,
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that matter."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def write(
    name: str,
    what: str,
    results: Result,
    module: str | None = None,
    folder: Path = RESULTS,
    shown: str | None = None,
) -> None:
    """Write ``NAME.json`` and ``NAME.md``.

    Args:
        what: first line of the benchmark's description.
        results: case -> its figures, or a text that says why there are none; may be nested.
        module: what to run for it, where that is not ``benchmarks NAME``.
        shown: Markdown of results that are no times.
    """
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "benchmark": name,
        "what": what,
        "command": f"python -m {module or f'benchmarks {name}'}",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "versions": versions(),
        "results": results,
    }
    text = json.dumps(document, indent=2, default=str)
    (folder / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")
    (folder / f"{name}.md").write_text(_markdown(document, shown), encoding="utf-8")


@dataclass(frozen=True)
class _Line:
    """One line of the table."""

    case: str
    figures: Mapping[str, Any]


_COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "rows": ("rows", lambda v: f"{v:,}"),
    "seconds": ("seconds", lambda v: f"{v:,.3g}" if v < 1000 else f"{v:,.0f}"),
    "rows_a_second": ("rows a second", lambda v: f"{v:,}"),
    "peak_rss_bytes": ("peak memory, MiB", lambda v: f"{v / 2**20:,.0f}"),
}
_QUIET = {*_COLUMNS, "seconds_of_runs", "rss_bytes_before"}


def _markdown(document: Mapping[str, Any], shown: str | None) -> str:
    name, machine_ = document["benchmark"], document["machine"]
    packages = ", ".join(f"{k} {v}" for k, v in document["versions"].items())
    memory = machine_["memory_bytes"] / 2**30
    measured = (
        f"Measured on {document['date']} by `{document['command']}`: "
        f"{machine_['cpu']}, {machine_['cores']} cores, {memory:.0f} GiB, {machine_['system']}."
    )
    if shown is not None:
        text = [f"# {name}", "", document["what"], "", shown, "", measured]
        return "\n".join([*text, "", f"With {packages}.", ""])
    lines = list(_lines(document["results"], ()))
    notes = list(_notes(document["results"], ()))
    head = " | ".join(["", "case", *(title for title, _ in _COLUMNS.values()), ""]).strip()
    rule = "|---|" + "---:|" * len(_COLUMNS)
    table = [f"| {line.case} | {' | '.join(_cells(line.figures))} |" for line in lines]
    text = [
        f"# {name}",
        "",
        document["what"],
        "",
        head,
        rule,
        *table,
        "",
        *notes,
        *([""] if notes else []),
        measured,
        "Each run has a process of its own; of several runs it is the median of the seconds, and "
        "the highest peak of resident memory, the interpreter and all libraries included.",
        "",
        f"With {packages}.",
        "",
    ]
    return "\n".join(text)


def _cells(figures: Mapping[str, Any]) -> list[str]:
    return [show(figures[name]) if name in figures else "" for name, (_, show) in _COLUMNS.items()]


def _lines(results: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[_Line]:
    for name, value in results.items():
        if not isinstance(value, Mapping):
            continue
        if "seconds" in value:
            yield _Line(": ".join([*path, name]), value)
        else:
            yield from _lines(value, (*path, name))


def _notes(results: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    """What else was found, a line each."""
    for name, value in results.items():
        if name in _QUIET:
            continue
        where = (*path, name)
        if isinstance(value, Mapping):
            yield from _notes(value, where)
        else:
            shown = f"{value:,}" if isinstance(value, int) else value
            yield f"- {': '.join(where).replace('_', ' ')}: {shown}"
