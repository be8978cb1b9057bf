"""Whether looking results up is cheaper than computing them: measured, per model."""

import json
import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from filelock import FileLock

logger = logging.getLogger(__name__)
REPORTS = "payoff.json"
# Before anything was seen, one row in ten is taken to come again; so much weight has that.
EXPECTED_HIT_RATE = 0.1
EXPECTED_ROWS = 1_000_000
# What lies further back counts half, so that a change is noticed.
REMEMBERED_ROWS = 20_000_000
MODELS = 50
LOCK_SECONDS = 5.0


@dataclass
class Payoff:
    """What was seen of one model; rows and seconds.

    Attributes:
        seen, hits: rows for which the sample stands, and of those the ones that were known.
        looked_up, look_up_seconds, found: while all rows are looked up.
        kept, keep_seconds: while all rows are kept.
        spent_seconds: all that the cache took, the sample included.
        computed, compute_seconds, computations: rows computed, in so many calls.
    """

    seen: int = 0
    hits: int = 0
    found: int = 0
    spent_seconds: float = 0.0
    looked_up: int = 0
    look_up_seconds: float = 0.0
    kept: int = 0
    keep_seconds: float = 0.0
    computed: int = 0
    compute_seconds: float = 0.0
    computations: int = 0

    def add_computation(self, rows: int, seconds: float) -> None:
        """The first one, which warms things up, counts only until there is a second one."""
        if self.computations == 1:
            self.computed, self.compute_seconds = 0, 0.0
        self.computations += 1
        self.computed += rows
        self.compute_seconds += seconds

    def forget(self) -> None:
        """Halve everything when there is much."""
        if self.seen > REMEMBERED_ROWS or self.computed > REMEMBERED_ROWS:
            for field in fields(self):
                value = getattr(self, field.name)
                setattr(self, field.name, type(value)(value / 2))

    @property
    def compute_row_seconds(self) -> float:
        return self.compute_seconds / max(1, self.computed)

    @property
    def look_up_row_seconds(self) -> float:
        return self.look_up_seconds / max(1, self.looked_up)

    @property
    def keep_row_seconds(self) -> float:
        return self.keep_seconds / max(1, self.kept)

    @property
    def expected_hit_rate(self) -> float:
        """Of the next rows, how many are known if all are kept."""
        return (self.hits + EXPECTED_HIT_RATE * EXPECTED_ROWS) / (self.seen + EXPECTED_ROWS)

    @property
    def pays(self) -> bool:
        """A row's computation times how often it is saved, against look-up and keeping.

        True while nothing is known.
        """
        if not (self.computed and self.looked_up):
            return True
        rate = self.expected_hit_rate
        cost = self.look_up_row_seconds + (1 - rate) * self.keep_row_seconds
        return rate * self.compute_row_seconds > cost

    def report(self) -> dict[str, bool | int | float]:
        """Figures for people: rows, seconds, and microseconds a row."""
        micro = 1e6
        return {
            "hits": self.found,
            "misses": self.looked_up - self.found,
            "expected_hit_rate": round(self.expected_hit_rate, 4),
            "seconds_spent": round(self.spent_seconds, 3),
            "seconds_saved": round(self.found * self.compute_row_seconds, 3),
            "compute_us_per_row": round(self.compute_row_seconds * micro, 3),
            "look_up_us_per_row": round(self.look_up_row_seconds * micro, 3),
            "keep_us_per_row": round(self.keep_row_seconds * micro, 3),
            "pays": self.pays,
        }


def read_payoffs(folder: Path) -> dict[str, Payoff]:
    """What is known, by model; nothing where there is no such file or it cannot be read."""
    try:
        entries = json.loads((folder / REPORTS).read_text(encoding="utf-8"))
        return {model: _payoff(entry) for model, entry in entries.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        logger.warning("what the embedding cache saved cannot be read: %s", error)
        return {}


def _payoff(entry: Mapping[str, float]) -> Payoff:
    payoff = Payoff()
    for field in fields(Payoff):
        kind = type(getattr(payoff, field.name))
        setattr(payoff, field.name, kind(entry.get(field.name, 0)))
    return payoff


def write_payoff(folder: Path, model: str, payoff: Payoff) -> None:
    """Put it down for the next run; the models that were used last are kept. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{REPORTS}.lock", timeout=LOCK_SECONDS):
        entries = read_payoffs(folder)
        entries.pop(model, None)
        entries[model] = payoff
        last = dict(list(entries.items())[-MODELS:])
        text = json.dumps({name: asdict(entry) for name, entry in last.items()}, indent=1)
        handle, name = tempfile.mkstemp(prefix=".new-", dir=folder)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(folder / REPORTS)
