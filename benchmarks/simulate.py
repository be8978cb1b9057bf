"""The simulator: a million transactions of three regions, as the files that it delivers."""

import tempfile
from pathlib import Path

from benchmarks.harness import Result, Watch, Work, measure

CASES = {
    "45 days, 12,000 customers": (45, 12_000, 20_000),
    "45 days, 1,500 customers (make demo)": (45, 1_500, 2_500),
}


def main() -> Result:
    """Measure a large simulation and the one of the demo."""
    return {name: measure(simulate_days, *case) for name, case in CASES.items()}


def simulate_days(days: int, customers: int, terminals: int) -> Work:
    """Simulate into a new data home."""
    from batch_assets.simulate import simulate

    with tempfile.TemporaryDirectory(prefix="simulate-") as folder:
        watch = Watch()
        summary = simulate(Path(folder), days=days, customers=customers, terminals=terminals)
        seconds = watch.seconds
    return Work(summary.rows, seconds, {"files": summary.files, "landing_bytes": summary.bytes})
