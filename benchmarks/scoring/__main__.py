"""The scoring engine, its peers, and the ceiling of this machine, in one run.

`make bench-scoring` runs it with an environment for the peers; in a smaller size, with
`ARGS="--rows 200000 --runs 1"`, it prints its results instead of writing them down.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

from benchmarks.harness import RESULTS
from benchmarks.scoring import report
from benchmarks.scoring.memory import adopt_orphans
from benchmarks.scoring.rounds import Benchmark
from benchmarks.scoring.settings import SETTINGS
from benchmarks.scoring.trial import REPOSITORY

ROWS, RUNS = 2_000_000, 5


def main() -> None:
    """Measure all that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scoring", description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--only", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--peers", type=Path, default=REPOSITORY / ".venv-peers" / "bin/python")
    parser.add_argument("--folder", type=Path, help="where to work; takes about 2 GB")
    parser.add_argument("--results", type=Path, help="where to write results, whatever their size")
    options = parser.parse_args()
    adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="scoring-", dir=options.folder) as folder:
        # Not resolved: the interpreter of an environment is a link.
        peers = Path(os.path.abspath(options.peers))
        document = Benchmark(Path(folder), options.rows, peers).run(options.only, options.runs)
    whole = options.rows == ROWS and set(options.only) == set(SETTINGS)
    target = options.results or (RESULTS if whole else None)
    if target:
        target.mkdir(parents=True, exist_ok=True)
        text = json.dumps(document, indent=2)
        (target / "scoring.json").write_text(f"{text}\n", encoding="utf-8")
        (target / "scoring.md").write_text(report.markdown(document), encoding="utf-8")
    print(report.markdown(document))


if __name__ == "__main__":
    main()
