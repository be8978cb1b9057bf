"""Scores rows that no batch has seen: those that wait together are one batch.

One thread takes what waits, lets the workload's model score it, stores the results in one commit,
and then gives the answers: an answer that was given is never lost.
"""

import hashlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from pydantic import BaseModel

from batch_assets.errors import BatchAssetsError
from batch_assets.serving.lookup import Found
from batch_assets.serving.realtime_rows import VECTOR, ScoredRows, as_found
from batch_assets.serving.realtime_store import Kept, RealtimeStore
from batch_assets.serving.workload import RealtimeModel, RowsRefused, Workload

ROWS_AT_ONCE = 64
LOOK_SECONDS = 1.0
"""So often the model looks for newer tables and versions, and the store for other servers' rows."""
CLEANING_SECONDS = 60.0
"""So often rows are dropped that give way."""
GRACE_SECONDS = 600.0
"""A row that a batch has scored is kept so long: a request may still read an older view."""
Observe = Callable[[str, float], None]


log = logging.getLogger(__name__)


class QueueFull(BatchAssetsError):
    """As many rows wait as may wait; ask again later."""


class Conflict(BatchAssetsError):
    """The key was scored with other content before."""


@dataclass
class _Waiting:
    key: str
    content: str
    row: BaseModel
    future: "Future[Found]"
    since: float = field(default_factory=time.perf_counter)


class RealtimeScorer:
    """Scores rows as they come, and keeps them until a batch has scored them.

    Args:
        workload: whose rows.
        model: scores them.
        store: keeps them.
        most_waiting: rows that may wait.
        observe: is told ``wait_seconds`` of each row, and of each batch of rows ``batch_rows``,
            ``score_seconds`` and ``store_seconds``.
        grace_seconds: for which a row stays after it was compared with the batch.
        cleaning_seconds: between two looks at which rows give way.
    """

    def __init__(
        self,
        workload: Workload,
        model: RealtimeModel,
        store: RealtimeStore,
        most_waiting: int = 1_000,
        observe: Observe = lambda name, value: None,
        grace_seconds: float = GRACE_SECONDS,
        cleaning_seconds: float = CLEANING_SECONDS,
    ) -> None:
        self._workload, self._model, self._store = workload, model, store
        self._most, self._observe = most_waiting, observe
        self._grace, self._pause = grace_seconds, cleaning_seconds
        self._queue: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._rows = ScoredRows(workload)
        self._settled: dict[str, float] = {}
        self._last = 0
        self._next_look = self._next_cleaning = 0.0
        self.model_version = ""
        self.errors = 0
        self._thread = threading.Thread(target=self._work, name="realtime", daemon=True)

    def start(self) -> None:
        """Load the model and what was scored before; afterwards rows are taken."""
        try:
            self._look()
        except BaseException:
            self._close()
            raise
        self._thread.start()

    def stop(self) -> None:
        """Take no more rows, and finish those that wait."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()
        self._close()

    def _close(self) -> None:
        self._model.close()
        self._store.close()

    @property
    def waiting(self) -> int:
        """Rows that wait to be scored."""
        return len(self._queue)

    def submit(self, row: BaseModel) -> "Future[Found]":
        """Have a row scored; the same content again gets the answer that it got before.

        The future raises :class:`Conflict`, :class:`RowRefused`, or what the model or the store
        raised.

        Raises:
            QueueFull: too many rows wait, or the server is stopping.
        """
        future: Future[Found] = Future()
        asked = _Waiting(getattr(row, self._workload.key), content_of(row), row, future)
        with self._changed:
            if self._stopping or len(self._queue) >= self._most:
                raise QueueFull(
                    "the server is stopping" if self._stopping else f"{self._most} rows wait"
                )
            self._queue.append(asked)
            self._changed.notify()
        return future

    def get(self, key: str) -> Found | None:
        """What was scored in real time under a key; takes microseconds."""
        kept = self._rows.get(key)
        return as_found(kept) if kept else None

    def of_entity(self, column: str, value: Any) -> list[Found]:
        """What was scored in real time of an entity, in no order; takes microseconds."""
        return [as_found(kept) for kept in self._rows.of_entity(column, value)]

    def vectors(self) -> pa.Table:
        """All rows: the columns of the predictions table, and ``vector``."""
        return self._rows.vectors()

    def _work(self) -> None:
        while (batch := self._take()) is not None:
            if time.monotonic() >= self._next_look:
                try:
                    self._look()
                except Exception as error:  # what was known before still serves
                    self.errors += 1
                    log.warning(
                        "%s: %s at looking around", self._workload.name, type(error).__name__
                    )
            if batch:
                self._answer(batch)

    def _take(self) -> list[_Waiting] | None:
        """Rows that wait, none when it is time to look around; None at the end."""
        with self._changed:
            pause = max(0.0, self._next_look - time.monotonic())
            self._changed.wait_for(lambda: self._queue or self._stopping, pause)
            if self._stopping and not self._queue:
                return None
            return [self._queue.popleft() for _ in range(min(len(self._queue), ROWS_AT_ONCE))]

    def _answer(self, batch: Sequence[_Waiting]) -> None:
        now = time.perf_counter()
        fresh: dict[str, list[_Waiting]] = {}
        for asked in batch:
            self._observe("wait_seconds", now - asked.since)
            held = self._rows.get(asked.key)
            first = fresh.get(asked.key, [asked])[0]
            if held is not None:
                _give(asked, held)
            elif first.content != asked.content:
                _refuse(asked, _conflict(asked.key))
            else:
                fresh.setdefault(asked.key, []).append(asked)
        if fresh:
            self._try(fresh)

    def _try(self, fresh: dict[str, list[_Waiting]]) -> None:
        """Score rows; if that fails, each alone, so that one cannot spoil the others."""
        try:
            self._score(fresh)
        except Exception as error:  # whatever it was, whoever asked has to be told
            if len(fresh) > 1:
                for key, group in fresh.items():
                    self._try({key: group})
                return
            self.errors += 1
            log.warning("%s: %s at scoring", self._workload.name, type(error).__name__)
            for group in fresh.values():
                for asked in group:
                    _refuse(asked, error)

    def _score(self, fresh: dict[str, list[_Waiting]]) -> None:
        started = time.perf_counter()
        kept = self._scored(fresh)
        scored = time.perf_counter()
        stored = self._store.put(kept) if kept else []
        self._observe("batch_rows", len(kept))
        self._observe("score_seconds", scored - started)
        self._observe("store_seconds", time.perf_counter() - scored)
        mine = [one for one in stored if one.content == fresh[self._key(one)][0].content]
        self._model.remember([fresh[self._key(one)][0].row for one in mine])
        numbers = sorted(one.number for one in mine)
        if numbers and numbers == list(range(self._last + 1, self._last + 1 + len(numbers))):
            self._last = numbers[-1]  # no other server's row is between
        for one in mine:
            self._rows.keep(one)
        for one in stored:
            for asked in fresh[self._key(one)]:
                _give(asked, one)

    def _scored(self, fresh: dict[str, list[_Waiting]]) -> list[Kept]:
        """Results of rows; those that are refused are told so, and left out."""
        left = dict(fresh)
        while left:
            groups = list(left.values())
            try:
                return _results(groups, self._model.score([group[0].row for group in groups]))
            except RowsRefused as refused:
                for place, why in refused.refused.items():
                    for asked in left.pop(groups[place][0].key):
                        _refuse(asked, why)
        return []

    def _look(self) -> None:
        self._next_look = time.monotonic() + LOOK_SECONDS
        self.model_version = self._model.refresh()
        others = [one for one in self._store.after(self._last) if self._key(one) not in self._rows]
        if others:
            request = self._workload.request
            assert request is not None
            self._model.remember([request.model_validate_json(one.request) for one in others])
        for one in others:
            self._rows.keep(one)
        self._last = max([self._last, *(one.number for one in others)])
        if time.monotonic() >= self._next_cleaning:
            self._next_cleaning = time.monotonic() + self._pause
            self._forget()

    def _forget(self) -> None:
        """Drop rows that the batch has scored and that were compared with it, after a while."""
        moment = time.monotonic()
        for key in self._model.settled(self._rows.keys_by_day()):
            self._settled.setdefault(key, moment + self._grace)
        gone = [key for key, until in self._settled.items() if until <= moment]
        for key in gone:
            self._settled.pop(key)
            self._rows.drop(key)
        if gone:
            self._store.remove(gone)

    def _key(self, kept: Kept) -> str:
        return str(kept.row[self._workload.key])


def content_of(row: BaseModel) -> str:
    """Changes with what is asked."""
    return hashlib.sha256(row.model_dump_json().encode()).hexdigest()


def _results(groups: Sequence[list[_Waiting]], scored: pa.Table) -> list[Kept]:
    vectors = scored[VECTOR].combine_chunks().flatten().to_numpy().reshape(len(groups), -1)
    rows = scored.drop_columns([VECTOR]).to_pylist()
    return [
        Kept(group[0].content, group[0].row.model_dump_json(), row, vector)
        for group, row, vector in zip(groups, rows, vectors, strict=True)
    ]


def _give(asked: _Waiting, kept: Kept) -> None:
    if kept.content != asked.content:
        _refuse(asked, _conflict(asked.key))
    elif not asked.future.done() and asked.future.set_running_or_notify_cancel():
        asked.future.set_result(as_found(kept))


def _refuse(asked: _Waiting, why: Exception) -> None:
    if not asked.future.done() and asked.future.set_running_or_notify_cancel():
        asked.future.set_exception(why)


def _conflict(key: str) -> Conflict:
    return Conflict(
        f"{key} was scored with other content before: send that again, or give the row another id"
    )
