"""Ceiling and engines measured by turns, so that what disturbs the machine falls on all alike."""

import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.harness import in_own_process, machine, versions
from benchmarks.scoring import report
from benchmarks.scoring.data import prepare
from benchmarks.scoring.job import Job
from benchmarks.scoring.settings import PEERS, SETTINGS, VARIANTS, Options
from benchmarks.scoring.trial import Trial, TrialError, run_trial

TRIED_ROWS, VARIANT_RUNS = 500_000, 3
PEER_PACKAGES = ("daft", "ray", "pyspark", "pandas", "pyarrow", "torch", "numpy")


class Benchmark:
    """All measurements, in a folder to work in."""

    def __init__(self, folder: Path, rows: int, peers: Path) -> None:
        self.folder = folder
        self.rows = rows
        self.peers = peers
        self.machine = machine()
        self.threads = int(self.machine["cores"])
        self.errors: dict[str, str] = {}

    def run(self, names: Sequence[str], runs: int) -> dict[str, Any]:
        """The document that is written down."""
        load = os.getloadavg()[0]
        big, small = self._prepared(self.rows), self._prepared(min(self.rows, TRIED_ROWS))
        names = [name for name in SETTINGS if name in names and self._possible(name)]
        tried = {name: self._tried(name, small) for name in names if name in PEERS}
        chosen = {name: self._fastest(name, tried.get(name, {})) for name in names}
        trials: dict[str, list[Trial]] = defaultdict(list)
        rates = []
        for number in range(runs):
            print(f"run {number + 1} of {runs}", flush=True)
            rates.append(in_own_process(ceiling_rates, self._job(big)))
            for name in names:
                self._add(trials[name], name, SETTINGS[name][chosen[name]], big)
        found = report.ceiling(rates, self.threads)
        engines = {
            name: {"error": self.errors[name]}
            if name in self.errors
            else report.engine(trials[name], chosen[name])
            for name in SETTINGS
            if name in names or name in self.errors
        }
        return {
            "benchmark": "scoring",
            "command": "make bench-scoring",
            "date": datetime.now(UTC).date().isoformat(),
            "rows": self.rows,
            "runs": runs,
            "ceiling_rows_per_second": found["rows_per_second"],
            "engines": engines,
            "compared": report.compared(engines, found["rows_per_second"]),
            "ceiling": found,
            "variants": self._variants(big, min(runs, VARIANT_RUNS)) if "ours" in names else {},
            "imports_alone_bytes": self._imports_alone(small),
            "settings_tried": tried,
            "load_before": round(load, 2),
            "machine": self.machine,
            "versions": versions(),
            "peer_versions": self._peer_versions(),
        }

    def _prepared(self, rows: int) -> Path:
        folder = self.folder / str(rows)
        if not folder.exists():
            folder.mkdir()
            in_own_process(prepare, folder, rows, self.threads)
        return folder

    def _possible(self, name: str) -> bool:
        """Whether an engine can run here; if not, it is noted why."""
        if name in PEERS and not self.peers.exists():
            self.errors[name] = f"there is no environment for it ({self.peers.name} is missing)"
        elif name == "spark" and not (os.environ.get("JAVA_HOME") or shutil.which("java")):
            self.errors[name] = "Java is not installed"
        return name not in self.errors

    def _tried(self, name: str, folder: Path) -> dict[str, float | str]:
        """Rows a second of each setting of an engine, or why it failed."""
        found: dict[str, float | str] = {}
        for setting, options in SETTINGS[name].items():
            try:
                found[setting] = round(self._trial(name, options, folder).rows_per_second)
            except TrialError as error:
                found[setting] = str(error)
        return found

    def _fastest(self, name: str, tried: dict[str, float | str]) -> str:
        rates = {setting: rate for setting, rate in tried.items() if not isinstance(rate, str)}
        return max(rates, key=lambda key: rates[key]) if rates else next(iter(SETTINGS[name]))

    def _add(self, trials: list[Trial], name: str, options: Options, folder: Path) -> None:
        """One more run; an engine that fails is not tried again."""
        if name in self.errors:
            return
        try:
            trials.append(self._trial(name, options, folder))
        except TrialError as error:
            self.errors[name] = str(error)

    def _trial(self, name: str, options: Options, folder: Path) -> Trial:
        python = self.peers if name in PEERS else Path(sys.executable)
        rows = int(folder.name)
        # What the one before has written need not be on its way to the disk meanwhile.
        os.sync()
        print(f"  {name} {json.dumps(options)}: ", end="", flush=True)
        try:
            trial = run_trial(folder, python, name, options, rows=rows, threads=self.threads)
        except TrialError as error:
            print(error, flush=True)
            raise
        print(
            f"{trial.rows_per_second:,.0f} rows a second, "
            f"{trial.peak_bytes / 2**20:,.0f} MiB, start-up {trial.startup_seconds:.1f} s, "
            f"load {os.getloadavg()[0]:.1f}",
            flush=True,
        )
        return trial

    def _variants(self, folder: Path, runs: int) -> dict[str, Any]:
        trials: dict[str, list[Trial]] = defaultdict(list)
        errors = {}
        for _ in range(runs):
            for name, options in VARIANTS.items():
                try:
                    trials[name].append(self._trial("ours", options, folder))
                except TrialError as error:
                    errors[name] = str(error)
        return {
            name: {"error": errors[name]} if name in errors else report.engine(trials[name], name)
            for name in VARIANTS
        }

    def _imports_alone(self, folder: Path) -> int:
        """Memory of a process that has loaded the libraries and the model, and does nothing."""
        python, engine = Path(sys.executable), "imports_alone"
        trial = run_trial(folder, python, engine, {}, rows=0, threads=self.threads, checked=False)
        return trial.peak_bytes

    def _job(self, folder: Path) -> Job:
        scratch = folder / "ceiling"
        scratch.mkdir(exist_ok=True)
        return Job(
            engine="ceiling",
            source=str(folder / "source"),
            sample=str(folder / "sample"),
            weights=str(folder / "network.pt"),
            target=str(scratch),
            scratch=str(scratch),
            threads=self.threads,
        )

    def _peer_versions(self) -> dict[str, str]:
        if not self.peers.exists():
            return {}
        code = (
            "import json, sys, importlib.metadata as m; "
            "print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
        )
        command = [str(self.peers), "-c", code, *PEER_PACKAGES]
        asked = subprocess.run(command, capture_output=True, text=True, check=False)
        return json.loads(asked.stdout) if asked.returncode == 0 else {}


def ceiling_rates(job: Job) -> dict[str, dict[str, float]]:
    """Measure the stages alone; torch is imported in the process that does it."""
    from benchmarks.scoring.ceiling import rates

    return rates(job)
