"""All systems in turn: started, checked, loaded, their memory looked at."""

import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.harness import Result
from benchmarks.serving import systems
from benchmarks.serving.checks import check_rows, recall
from benchmarks.serving.load import CONNECTIONS, Ask, Load, write_asks
from benchmarks.serving.processes import LIMIT_SECONDS, Server, forget_pages
from benchmarks.serving.questions import Questions
from benchmarks.serving.systems import Place

LOOKUP_RATE, STORE_RATE, SEARCH_RATE, SCORE_RATE, FEAST_RATE = 3_000, 200, 100, 200, 200
WARM_SECONDS = 2
ALL_IN_MEMORY, LITTLE_MEMORY, NO_MEMORY = "4GB", "256MB", "1MB"
OLD_SHARE = 0.5
"""Share of the days, the first ones, of which none is in little memory."""
PROBES = (4, 8, 16, 32, 64, 128)
"""Of LanceDB, tried until its recall reaches the goal."""
RECALL = 0.98
RESTARTS = 3
SETTLED_SECONDS = 10.0
READY = Ask("/readyz")
OWN_FILES = ".serving"
"""Of the server, in the data home."""


@dataclass
class Measurement:
    """One run of the benchmark.

    Args:
        load_core: where wrk runs.
        runs, seconds: how often, and how long, each load is measured.
    """

    place: Place
    load_core: int
    runs: int
    seconds: int
    questions: Questions = field(init=False)
    searches: list[Ask] = field(init=False)
    tenth: npt.NDArray[np.float32] = field(init=False)
    _files: dict[str, Path] = field(default_factory=dict)
    _next: dict[str, int] = field(default_factory=dict)

    def prepare(self) -> None:
        """Write down what is asked, and what the exact neighbours are.

        What servers kept beside the tables is removed: rows that they scored would be known.
        """
        shutil.rmtree(self.place.home / OWN_FILES, ignore_errors=True)
        self.questions = Questions(self.place.home)
        self.searches = self.questions.searches()
        kept = self.place.folder / "tenth.npy"
        if not kept.exists():
            np.save(kept, self.questions.distances())
        self.tenth = np.load(kept)
        lookups = self.questions.lookups()
        self._keep("lookups", lookups)
        self._keep("old", self.questions.old(OLD_SHARE))
        self._keep("absent", self.questions.absent())
        self._keep("searches", self.searches)
        self._keep("score", self.questions.to_score())
        self._keep("feast", map(systems.feast_ask, self._feast_asks()))

    def ours_in_memory(self) -> Result:
        """Everything in memory."""
        found: Result = {"ready_seconds": []}
        for _ in range(RESTARTS):
            with systems.ours(self.place, ALL_IN_MEMORY) as server:
                found["ready_seconds"].append(round(server.wait_for(READY), 2))
        with systems.ours(self.place, ALL_IN_MEMORY) as server:
            server.wait_for(READY)
            days = len(self.questions.folders)
            found["days_in_memory"] = wait_until_loaded(server, self.searches[0], days)
            found["loaded_seconds"] = round(server.started.seconds, 1)
            check_rows(server, self.questions, self.questions.lookups())
            share, answers = recall(server, self.searches, self.tenth)
            found["recall"] = round(share, 4)
            found["search_source"] = sorted({answer["source"] for answer in answers})
            found["lookups"] = self._load(server, "lookups", LOOKUP_RATE)
            found["lookups, as many as can be"] = self._load(server, "lookups", 0)
            found["not scored"] = self._load(server, "absent", LOOKUP_RATE)
            found["searches"] = self._load(server, "searches", SEARCH_RATE)
            found["memory"] = server.memory()
            found["score"] = self._load(server, "score", SCORE_RATE)
            found["memory after scoring"] = server.memory()
        return found

    def ours_on_disk(self) -> Result:
        """Little in memory: old days are read from the store."""
        found: Result = {}
        with systems.ours(self.place, NO_MEMORY) as server:
            server.wait_for(READY)
            wait_until_loaded(server, self.searches[0])
            found["memory without any predictions"] = server.memory()
        with systems.ours(self.place, LITTLE_MEMORY) as server:
            found["ready_seconds"] = [round(server.wait_for(READY), 2)]
            found["days_in_memory"] = wait_until_loaded(server, self.searches[0])
            old = self.questions.old(OLD_SHARE)
            check_rows(server, self.questions, old)
            found["sources"] = sorted({server.ask(one)[1]["source"] for one in old[10:20]})
            found["lookups"] = self._load(server, "old", STORE_RATE)
            found["lookups, files not in the system's memory"] = self._load(
                server, "old", STORE_RATE, before=lambda: forget_pages(self.place.home / "vectors")
            )
            found["searches, two at a time"] = self._load(server, "searches", 0, connections=2)
            share, _ = recall(server, self.searches, self.tenth)
            found["recall"] = round(share, 4)
            found["memory"] = server.memory()
        return found

    def redis(self) -> Result:
        """Redis behind FastAPI."""
        lookups = self.questions.lookups()
        with systems.redis_app(self.place) as server:
            server.wait_for(lookups[0])
            check_rows(server, self.questions, lookups)
            return {
                "lookups": self._load(server, "lookups", LOOKUP_RATE),
                "lookups, as many as can be": self._load(server, "lookups", 0),
                "memory": server.memory(),
            }

    def feast(self) -> Result:
        """Feast's feature server over Redis; at a rate that it can take."""
        asks = self._feast_asks()
        with systems.feast(self.place) as server:
            server.wait_for(Ask("/health"))
            check_rows(server, self.questions, asks, systems.feast_ask, systems.feast_row)
            return {
                "lookups": self._load(server, "feast", FEAST_RATE),
                "lookups, as many as can be": self._load(server, "feast", 0),
                "memory": server.memory(),
            }

    def lancedb(self) -> Result:
        """LanceDB behind FastAPI, with the fewest probes that reach the recall."""
        probes, share = self._probes()
        with systems.lancedb_app(self.place, probes) as server:
            lookups = self.questions.lookups()
            server.wait_for(lookups[0])
            check_rows(server, self.questions, lookups)
            return {
                "probes": probes,
                "recall": round(share, 4),
                "lookups": self._load(server, "lookups", STORE_RATE),
                "lookups, as many as can be": self._load(server, "lookups", 0),
                "searches": self._load(server, "searches", SEARCH_RATE),
                "memory": server.memory(),
            }

    def _probes(self) -> tuple[int, float]:
        for probes in PROBES:
            with systems.lancedb_app(self.place, probes) as server:
                server.wait_for(self.searches[0])
                share, _ = recall(server, self.searches, self.tenth)
                if share >= RECALL or probes == PROBES[-1]:
                    return probes, share
        raise AssertionError

    def _feast_asks(self) -> list[Ask]:
        return self.questions.newest(systems.FEAST_ROWS // 2)

    def _keep(self, name: str, asks: Any) -> None:
        self._files[name] = write_asks(self.place.folder / f"{name}.txt", asks)

    def _load(
        self,
        server: Server,
        name: str,
        rate: int,
        before: Callable[[], None] = lambda: None,
        connections: int = CONNECTIONS,
    ) -> Result:
        """Medians of several runs, after a short one that is not counted."""
        at, found = self._next.get(name, 0), []
        for number in range(self.runs + 1):
            before()
            seconds = self.seconds if number else WARM_SECONDS
            load = Load(self._files[name], rate, seconds, self.load_core, at, connections)
            one = load.run(server.url)
            at += one["requests"]
            if number:
                found.append(one)
        self._next[name] = at
        shown = medians(found)
        print(f"    {name} at {rate or 'most'}: {shown}", file=sys.stderr, flush=True)
        return shown


def wait_until_loaded(server: Server, search: Ask, days: int | None = None) -> int:
    """Wait until so many days are searched in memory; gives how many are.

    Args:
        days: None where it is not known how many have room: until no more come.
    """
    seen, since = -1, time.monotonic()
    patience = SETTLED_SECONDS if days is None else LIMIT_SECONDS
    while seen != days and time.monotonic() - since < patience:
        status, found = server.ask(search)
        searched = found["in_memory_days"] if status == 200 else 0
        if searched != seen:
            seen, since = searched, time.monotonic()
        time.sleep(0.5)
    return seen


def medians(runs: Sequence[Result]) -> Result:
    """Of each figure of several runs."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}
