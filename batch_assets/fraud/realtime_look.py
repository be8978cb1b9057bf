"""Looks at the batch's tables and the live model, in a thread of its own."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from batch_assets.fraud import tables
from batch_assets.fraud.feature_rows import own_columns
from batch_assets.fraud.keys import State
from batch_assets.fraud.pipeline import NoLiveModelError, Pipeline
from batch_assets.fraud.realtime_known import (
    READ,
    KnownDay,
    known_ids,
    known_key,
    read_known_day,
)
from batch_assets.fraud.scorer import MODEL, load_scorer

if TYPE_CHECKING:
    from batch_assets.inference.scoring import Scorer

WATCHED = (*READ, tables.RAW_RATES)
"""Tables that scores are made from."""
Days = Mapping[date, KnownDay | None]
Pending = Mapping[date, Sequence[str]]


@dataclass(frozen=True)
class Look:
    """What was found at one look.

    Args:
        state: the tables.
        versions: those of ``WATCHED``.
        version: of the live model.
        days: what features of these days are made from.
        asked: pending transactions of which it was asked whether the batch has them by now.
        in_batch: those of them that it has.
    """

    state: State
    versions: tuple[int, ...]
    version: str
    scorer: "Scorer"
    days: Mapping[date, KnownDay]
    asked: set[str]
    in_batch: set[str]


class Looks:
    """One look after the other; the newest that was taken is ``current``."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._reader = ThreadPoolExecutor(1, "realtime tables")
        self._looking: Future[Look | None] | None = None
        self.current: Look | None = None

    def next(self, days: Days, pending: Pending) -> Look | None:
        """Take what was found since the last call, and look again; waits for the first look only.

        Args:
            days: that are to be known, and what is known of them.
            pending: transactions a day that no batch has, as far as is known.

        Returns:
            What was found, if anything is new.

        Raises:
            NoLiveModelError: nothing can be scored yet.
        """
        looking, self._looking = self._looking, None
        looking = looking or self._reader.submit(self._find, self.current, days, pending)
        found = None
        if self.current is None or looking.done():
            found = looking.result()
            self.current = found or self.current
            days = {**days, **found.days} if found else days
            looking = self._reader.submit(self._find, self.current, days, pending)
        self._looking = looking
        return found

    def close(self) -> None:
        """End the thread."""
        self._reader.shutdown(cancel_futures=True)

    def _find(self, old: Look | None, held: Days, pending: Pending) -> Look | None:
        """Look at tables and models; None if all is as it was."""
        if old is not None and None not in held.values() and not self._is_news(old):
            return None
        state = self._pipeline.state()
        version = state.model_version
        if version is None:
            raise NoLiveModelError(
                "no fraud model is live yet: `batch-assets run` trains one, and "
                "`batch-assets models promote` makes one live"
            )
        versions = tuple(state.snapshot(table).version for table in WATCHED)
        scorer = old.scorer if old and old.version == version else self._load(state, version)
        days = {
            day: known
            if known and known.key == known_key(state, day)
            else read_known_day(state, day)
            for day, known in held.items()
        }
        asked = {one for ids in pending.values() for one in ids}
        return Look(state, versions, version, scorer, days, asked, known_ids(state, pending))

    def _is_news(self, old: Look) -> bool:
        """Whether there is a newer version of a table or of the model; a few looks at files."""
        root = Path(self._pipeline.warehouse.root)
        newer = (
            root / table.name / "_delta_log" / f"{version + 1:020}.json"
            for table, version in zip(WATCHED, old.versions, strict=True)
        )
        live = self._pipeline.models.live(MODEL)
        return live != old.version or any(path.exists() for path in newer)

    def _load(self, state: State, version: str) -> "Scorer":
        scorer = load_scorer(
            self._pipeline.models, version, self._pipeline.settings.home, "cpu", "fp32"
        )
        own_columns(state, scorer.features)  # those of one's own that it reads are there
        import numpy as np

        scorer.score_matrix(np.zeros((1, len(scorer.features)), np.float32))  # the first is slow
        return scorer
