"""One pass of the model over a day's features, exactly once: scores to Delta, embeddings to Lance.

Chunks of the day are scored into files, each recorded when it is whole; a run that was killed goes
on behind the last of them. When all are there, vectors are published first, then the Delta
commit, which is the decision. Both carry the day's key, so a reader that drops vectors with
another key never sees vectors of one pass beside scores of another. ``protocol.py`` lists the
moments on the way.
"""

import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from filelock import FileLock, Timeout

from batch_assets.fraud import chunks, tables
from batch_assets.fraud.chunks import ChunkTask
from batch_assets.fraud.embeddings import EMBEDDINGS
from batch_assets.fraud.keys import PREDICTIONS, State
from batch_assets.fraud.landing import digest
from batch_assets.fraud.scoring_inputs import Files, forget_inputs, input_files
from batch_assets.protocol import Moment, passed
from batch_assets.storage.tables import Table
from batch_assets.storage.vectors import VectorStore
from batch_assets.storage.warehouse import StagedFile, Warehouse

if TYPE_CHECKING:
    import duckdb

    from batch_assets.fraud.ledger import LedgerEntry, Outcome
    from batch_assets.inference.journal import Attempt, Chunk, Journal
    from batch_assets.inference.stats import EngineStats

logger = logging.getLogger(__name__)
SAMPLE_ROWS = 16_384
KEEP_SECONDS = 7 * 24 * 3600.0
"""As long as files of vectors that no table names are kept."""


def chunks_folder(warehouse: Warehouse) -> Path:
    """Where the chunks of days that are not published yet lie, a folder a day."""
    return Path(warehouse.root).parent / ".chunks"


def unfinished_days(warehouse: Warehouse) -> dict[date, int]:
    """Days that are being scored, or whose scoring was cut off -> rows that are kept."""
    from batch_assets.inference.journal import read_chunks

    folders = (path for path in chunks_folder(warehouse).glob("*") if path.is_dir())
    return {
        date.fromisoformat(folder.name): sum(c.stop - c.start for c in read_chunks(folder))
        for folder in sorted(folders)
    }


def forget_unfinished(warehouse: Warehouse, seconds: float = KEEP_SECONDS) -> list[date]:
    """Remove what is kept of days on which nobody works, nor has worked for so long."""
    forgotten, root = [], chunks_folder(warehouse)
    for day in unfinished_days(warehouse):
        if time.time() - (root / str(day)).stat().st_mtime < seconds:
            continue
        with suppress(Timeout), FileLock(root / f"{day}.lock", blocking=False):
            forget_inputs(root, day)
            shutil.rmtree(root / str(day))
            forgotten.append(day)
    return forgotten


@dataclass(frozen=True)
class Scoring:
    """Scores days; of several processes one does a day, and the others wait for it.

    Args:
        salt: what results of a version of the model on these devices depend on beside the input;
            if that is still to be chosen, on the first rows that it is given, of so many.
        devices: where chunks are scored at the same time; one process for each if several.
        workers: makes what scores chunks on a device.
        account: writes what attempts took into the ledger; says whether it could.
        run_id: of the run that does it.
    """

    warehouse: Warehouse
    vectors: VectorStore
    salt: Callable[[str | None, pa.RecordBatch, int], str]
    devices: Sequence[str]
    workers: "Callable[[str], Callable[[ChunkTask], Chunk]]"
    account: "Callable[[Sequence[LedgerEntry]], bool]"
    run_id: str = ""

    @contextmanager
    def holding(self, days: Sequence[date]) -> Iterator[bool]:
        """Nobody else scores these days meanwhile; what was done is put into the ledger.

        Yields:
            Whether another process was at it before: then look again at what there is to do.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with ExitStack() as locks:
            waited = [self._lock(locks, day) for day in sorted(days)]
            if any(waited):
                yield True
                return
            passed(Moment.DAY_LOCKED)
            try:
                yield False
            except Exception:
                self._settle(days, "failed")
                raise
            except BaseException:
                self._settle(days, "interrupted")
                raise
            self._finish(days)

    def produce(
        self,
        connection: "duckdb.DuckDBPyConnection",
        state: State,
        days: Sequence[date],
        folder: Path,
    ) -> dict[Table, list[StagedFile]]:
        """Stage the scores of some days and publish their vectors.

        Raises:
            StoppedError: a signal asked the process to end; what was scored is kept.
        """
        from batch_assets.inference.plan import PlanChanged
        from batch_assets.inference.stopping import gentle_stop

        with gentle_stop() as stop:
            while True:
                attempts = self._begin(state, days)
                try:
                    self._score(attempts, stop)
                    break
                except PlanChanged as change:  # what was scored has other bits than what follows
                    logger.warning("begun again: %s", change)
            return {tables.FRAUD_PREDICTIONS: self._publish(attempts)}

    def finish_what_others_left(self, days: Sequence[date]) -> None:
        """Account for days whose predictions were published by a process that died just then."""
        for day in days:
            if self._folder(day).exists():
                with ExitStack() as locks:
                    self._lock(locks, day)
                    self._finish([day])

    @property
    def root(self) -> Path:
        """Where chunks are kept until their day is published."""
        return chunks_folder(self.warehouse)

    def _folder(self, day: date) -> Path:
        return self.root / str(day)

    def _lock(self, locks: ExitStack, day: date) -> bool:
        """Lock a day until the stack is left; says whether another process had it."""
        lock = FileLock(self.root / f"{day}.lock")
        try:
            locks.enter_context(lock.acquire(blocking=False))
        except Timeout:
            logger.warning("%s is being scored by another run: waiting for it", day)
            locks.enter_context(lock)
            return True
        return False

    def _begin(self, state: State, days: Sequence[date]) -> "list[_Attempt]":
        """Take the days over, with the chunks that are there already."""
        files = input_files(state, days, self.root)
        rows = sum(count for of_day in files.values() for _, count in of_day)
        sample = (chunks.rows_between(of_day, 0, SAMPLE_ROWS) for of_day in files.values())
        first = next(chain.from_iterable(sample), None)
        salt = "no rows" if first is None else self.salt(state.model_version, first, rows)
        return [self._begin_day(state, day, salt, files[day]) for day in days]

    def _begin_day(self, state: State, day: date, salt: str, files: Files) -> "_Attempt":
        from batch_assets.inference.devices import device_name
        from batch_assets.inference.journal import Journal

        key, version = state.key(PREDICTIONS, day), state.model_version or ""
        journal = Journal(
            self._folder(day),
            digest(key, salt, *(path for path, _ in files)),
            usable=lambda c: self.vectors.is_staged(EMBEDDINGS, chunks.staged_vectors(c)),
            about={
                "run_id": self.run_id,
                "key": key,
                "model_version": version,
                "devices": list(self.devices),
                "device_name": device_name(self.devices[0]),
            },
        )
        passed(Moment.ATTEMPT_NOTED)
        before = state.snapshot(tables.FRAUD_PREDICTIONS).keys.get(day)
        return _Attempt(day, key, version, salt, files, before, journal)

    def _score(self, attempts: "Sequence[_Attempt]", stop: Callable[[], bool]) -> None:
        """Score what is not scored, all days in turn, a chunk at a time."""
        from batch_assets.engines.gpu_meter import measured
        from batch_assets.inference.spread import spread
        from batch_assets.inference.stopping import StoppedError

        journals = {attempt.day: attempt.journal for attempt in attempts}
        tasks = [task for attempt in attempts for task in attempt.tasks(len(self.devices))]
        results = spread(tasks, self.devices, self.workers, stop=stop, rest=ChunkTask.rest)
        with measured(self.devices) as use, closing(results):
            try:
                for task, chunk in results:
                    journals[task.day].record(chunk)
                    passed(Moment.CHUNK_RECORDED)
                if stop():
                    raise StoppedError
            finally:
                if use:
                    for journal in journals.values():
                        journal.note(gpu=[use.busy, use.peak_memory_bytes, use.peak_celsius])

    def _publish(self, attempts: "Sequence[_Attempt]") -> list[StagedFile]:
        """Publish the vectors of days that are scored, in one commit, and stage their scores."""
        self.vectors.publish(
            EMBEDDINGS,
            {a.day: [chunks.staged_vectors(chunk) for chunk in a.done()] for a in attempts},
        )
        passed(Moment.VECTORS_PUBLISHED)
        staged = []
        for attempt in attempts:
            day, key, folder = attempt.day, attempt.key, attempt.journal.folder
            names = [name for chunk in attempt.done() for name in chunk.files]
            staged += [StagedFile(folder / name, {"day": day}, key) for name in names]
            if not names:
                empty = self.warehouse.empty_file(folder, tables.FRAUD_PREDICTIONS, day, key)
                staged.append(empty)
        return staged

    def _finish(self, days: Sequence[date]) -> None:
        """Account for days that are published, and remove what was needed on the way."""
        passed(Moment.PREDICTIONS_PUBLISHED)
        self._settle(days, "done")
        passed(Moment.LEDGER_WRITTEN)
        for day in days:
            forget_inputs(self.root, day)
            shutil.rmtree(self._folder(day), ignore_errors=True)
        passed(Moment.SWEPT)

    def _settle(self, days: Sequence[date], outcome: "Outcome") -> None:
        """Put attempts that are not in the ledger into it; of several, the last one ended so."""
        from batch_assets.inference.journal import settle

        published = self.warehouse.snapshot(tables.FRAUD_PREDICTIONS).keys
        entries = [e for day in days for e in self._entries(day, outcome, published.get(day))]
        if entries and self.account(entries):
            for day in days:
                settle(self._folder(day))

    def _entries(self, day: date, outcome: "Outcome", published: str | None) -> "list[LedgerEntry]":
        from batch_assets.inference.journal import stats_of_attempts

        attempts = stats_of_attempts(self._folder(day))
        ends: list[Outcome] = ["killed"] * len(attempts)
        if attempts and (outcome != "done" or attempts[-1][0].about.get("key") == published):
            ends[-1] = outcome
        return [
            _entry(day, attempt, stats, end)
            for (attempt, stats), end in zip(attempts, ends, strict=True)
            if not attempt.settled and (stats.rows or attempt.lost.rows or end == "done")
        ]


def _entry(
    day: date, attempt: "Attempt", stats: "EngineStats", outcome: "Outcome"
) -> "LedgerEntry":
    from batch_assets.engines.gpu_meter import GpuUse, Reading
    from batch_assets.fraud.ledger import LedgerEntry

    devices, gpu = attempt.about.get("devices", ["cpu"]), attempt.about.get("gpu")
    return LedgerEntry(
        asset=tables.FRAUD_PREDICTIONS.name,
        day=day,
        run_id=attempt.about.get("run_id", ""),
        engine="local",
        started_at=datetime.fromtimestamp(attempt.started_at, UTC),
        stats=stats,
        rows_twice=attempt.lost.rows,
        outcome=outcome,
        model_version=attempt.about.get("model_version", ""),
        elapsed_seconds=stats.elapsed_seconds / len(devices),
        devices=1 if devices[0] == "cpu" else len(devices),
        device_name=attempt.about.get("device_name"),
        gpu=GpuUse([Reading(*gpu)]) if gpu else None,
    )


@dataclass(frozen=True)
class _Attempt:
    """A day that is being scored."""

    day: date
    key: str
    model_version: str
    salt: str
    files: Files
    before: str | None
    journal: "Journal"

    def done(self) -> "list[Chunk]":
        """The chunks in the order of their rows."""
        return sorted(self.journal.chunks, key=lambda chunk: chunk.start)

    def tasks(self, devices: int) -> list[ChunkTask]:
        """What is left to be scored, so cut that each device gets something."""
        from batch_assets.inference.journal import to_do

        rows = sum(count for _, count in self.files)
        share = max(1, -(-rows // devices))
        most = min(chunks.ROWS, -(-share // chunks.READ_ROWS) * chunks.READ_ROWS)
        done = [range(chunk.start, chunk.stop) for chunk in self.journal.chunks]
        return [
            ChunkTask(
                self.day,
                self.key,
                self.model_version,
                self.salt,
                (part.start, part.stop),
                self.files,
                self.before,
                str(self.journal.folder),
                self.journal.attempt.number,
            )
            for part in to_do(rows, done, most)
        ]
