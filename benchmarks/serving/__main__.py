"""The server under load beside Redis, Feast and LanceDB over the same rows, in one run.

`make bench-serving` runs it; what takes long to make (the data home, the peers' stores) is kept in
a folder, so that another run goes on from there. Needs wrk, redis-server and two cores.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import harness
from benchmarks.harness import Result
from benchmarks.serving import report, systems
from benchmarks.serving.home import Size, home_of
from benchmarks.serving.measure import FEAST_RATE, Measurement
from benchmarks.serving.processes import REPOSITORY, ServerError
from benchmarks.serving.report import DISK, MEMORY
from benchmarks.serving.systems import FEAST_ROWS, Place

WHAT = "The server under load beside Redis, Feast and LanceDB over the same rows, in one run."
SIZE = Size()
NAMES = (MEMORY, DISK, "redis", "feast", "lancedb")


def main() -> None:
    """Prepare what is missing, measure what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--days", type=int, default=SIZE.days)
    parser.add_argument("--rows-a-day", type=int, default=SIZE.rows_a_day)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=10, help="of each run of a load")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--peers", type=Path, default=REPOSITORY / ".venv-peers-serving/bin/python")
    parser.add_argument(
        "--folder",
        type=Path,
        default=REPOSITORY / "data" / "bench-serving",
        help="what is kept from run to run; takes about 15 GB",
    )
    parser.add_argument("--results", type=Path, help="where to write results, whatever their size")
    parser.add_argument("--prepare", action="store_true", help="measure nothing")
    options = parser.parse_args()
    size = Size(options.days, options.rows_a_day)
    home = home_of(size, options.folder)
    cores = sorted(os.sched_getaffinity(0))
    folder = options.folder / f"peers-of-{home.name}"
    folder.mkdir(exist_ok=True)
    # Not resolved: the interpreter of an environment is a link.
    place = Place(home, folder, Path(os.path.abspath(options.peers)), str(cores[0]))
    measurement = Measurement(place, cores[-1], options.runs, options.seconds)
    measurement.prepare()
    steps: dict[str, tuple[Callable[[], None], Callable[[], Result]]] = {
        MEMORY: (lambda: None, measurement.ours_in_memory),
        DISK: (lambda: None, measurement.ours_on_disk),
        "redis": (lambda: systems.fill_redis(place), measurement.redis),
        "feast": (lambda: systems.fill_feast(place), measurement.feast),
        "lancedb": (lambda: systems.fill_lancedb(place), measurement.lancedb),
    }
    found: Result = {}
    load_before = round(os.getloadavg()[0], 1)
    for name in options.only:
        fill, measure = steps[name]
        print(f"  {name}", file=sys.stderr, flush=True)
        try:
            fill()
            if not options.prepare:
                found[name] = measure()
        except (ServerError, OSError, RuntimeError) as error:  # a peer may not be there
            found[name] = {"error": str(error).splitlines()[0]}
            print(f"    {error}", file=sys.stderr, flush=True)
    if options.prepare:
        return
    results = report.document(
        {
            "rows": measurement.questions.rows,
            "days": size.days,
            "runs": options.runs,
            "seconds": options.seconds,
            "feast_rows": FEAST_ROWS,
            "feast_rate": FEAST_RATE,
            "load_before": load_before,
            "peer_versions": systems.versions(place),
            "systems": found,
        }
    )
    shown = report.markdown(results)
    whole = size == SIZE and set(options.only) == set(NAMES)
    target = options.results or (harness.RESULTS if whole else None)
    if target:
        harness.write("serving", WHAT, results, "benchmarks.serving", target, shown)
    print(shown)


if __name__ == "__main__":
    main()
