"""``python -m benchmarks``: run all benchmarks, or those named, and write down the results."""

import argparse
import importlib
import os
import time

from benchmarks.harness import write

NAMES = (
    "simulate",
    "ingest",
    "clean",
    "features",
    "score",
    "search",
    "serving_search",
    "sequences",
    "cache",
    "embeddings",
    "quality",
)


def main() -> None:
    """Run benchmarks one after another."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(NAMES)}")
    names = parser.parse_args().names or NAMES
    if unknown := [name for name in names if name not in NAMES]:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {', '.join(NAMES)}")
    for name in names:
        started = time.perf_counter()
        print(f"{name} ...", flush=True)
        module = importlib.import_module(f"benchmarks.{name}")
        what = (module.__doc__ or name).strip().splitlines()[0]
        results = module.main()
        if reason := results.get("skipped"):
            print(f"{name}: skipped, {reason}", flush=True)
            continue
        show = getattr(module, "markdown", None)
        write(name, what, results, shown=show(results) if show else None)
        load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
        seconds = time.perf_counter() - started
        print(f"{name}: {seconds:.0f} s{load}, see benchmarks/results/{name}.md", flush=True)


if __name__ == "__main__":
    main()
