"""A data home as a bank of a year has it: simulated deliveries, through the whole pipeline.

Real features and a trained model, so that embeddings and what real-time scoring reads are such as
they are in production; made once, then kept in a folder that is named by its size.
"""

import shutil
import sys
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from benchmarks.harness import Watch, in_own_process
from benchmarks.steps import open_home

FIRST_DAY = date(2026, 3, 1)
TRANSACTIONS_A_CUSTOMER = 1.95
"""A day, as the simulator makes them."""
CUSTOMERS_A_TERMINAL = 0.6
TRAINING_DAYS = 28


@dataclass(frozen=True)
class Size:
    """How much is served."""

    days: int = 180
    rows_a_day: int = 28_000

    @property
    def rows(self) -> int:
        return self.days * self.rows_a_day

    @property
    def last_day(self) -> date:
        return FIRST_DAY + timedelta(days=self.days - 1)


def home_of(size: Size, folder: Path) -> Path:
    """The home of this size in a folder; made there if there is none."""
    home = folder / f"home-{size.days}-days-of-{size.rows_a_day}"
    if home.exists():
        return home
    unfinished = home.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    in_own_process(_make, size, unfinished)
    unfinished.rename(home)
    return home


def _make(size: Size, home: Path) -> None:
    from batch_assets.fraud.embeddings import EMBEDDINGS
    from batch_assets.fraud.features import LABEL_DELAY_DAYS
    from batch_assets.fraud.keys import (
        CLEAN,
        FEATURES,
        LABELS,
        PREDICTIONS,
        RATES,
        REPORT,
        TOTALS,
        days_between,
    )
    from batch_assets.fraud.pipeline import KINDS
    from batch_assets.fraud.scorer import MODEL
    from batch_assets.fraud.train_model import train_and_save
    from batch_assets.simulate import simulate

    watch = Watch()
    customers = round(size.rows_a_day / TRANSACTIONS_A_CUSTOMER)
    terminals = round(customers / CUSTOMERS_A_TERMINAL)
    simulate(home, days=size.days, start=FIRST_DAY, customers=customers, terminals=terminals)
    _say(f"simulated {size.days} days", watch)
    pipeline = open_home(home)
    days = days_between(FIRST_DAY, size.last_day)
    for kind in KINDS:
        pipeline.ingest(kind, days)
        _say(f"ingested {kind}", watch)
    for step in (RATES, CLEAN, LABELS, TOTALS, FEATURES):
        pipeline.build(step, days)
        _say(f"built {step.name}", watch)
    labelled = days[: len(days) - LABEL_DELAY_DAYS - 1]
    version, _ = train_and_save(
        pipeline, labelled[-TRAINING_DAYS:], pipeline.settings.training_seed
    )
    pipeline.models.promote(version, MODEL)
    _say("trained", watch)
    pipeline.build(PREDICTIONS, days)
    _say("scored", watch)
    pipeline.build(REPORT, days[-1:])
    pipeline.vectors.optimise(EMBEDDINGS)
    _say("indexed", watch)


def _say(what: str, watch: Watch) -> None:
    print(f"  {what}: {watch.seconds:.0f} s", file=sys.stderr, flush=True)
