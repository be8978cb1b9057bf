"""Predictions in Redis or Valkey, which several servers share; the tier before the store.

One hash a workload, day and scoring key, so that a day that is made anew is another hash and the
old one can be dropped as a whole. The tier only ever saves time: what it has not, or not in
time, is read from the store, and while it fails it is not asked.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pyarrow as pa

from batch_assets.errors import BatchAssetsError
from batch_assets.serving.blocks import Row, Value
from batch_assets.serving.view import View
from batch_assets.serving.workload import Workload

logger = logging.getLogger(__name__)
Asked = Mapping[tuple[date, str], Sequence[Value]]
TIMEOUT_SECONDS = 0.05
"""For which an answer waits for Redis at most."""
EXPIRE_SECONDS = 24 * 3600
MOST_BYTES = 4_096
"""Of one row; longer ones are not kept."""
MOST_WAITING = 64
"""Batches of rows that wait to be written; what comes meanwhile is not kept."""
PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0
_FORMAT = 1
_TYPES: Mapping[Callable[[pa.DataType], bool], Any] = {
    pa.types.is_string: str,
    pa.types.is_integer: int,
    pa.types.is_floating: float,
    pa.types.is_boolean: bool,
    pa.types.is_timestamp: datetime,
    pa.types.is_date: date,
    pa.types.is_decimal: Decimal,
}


class Breaker:
    """Says whether to try; after a failure only now and then, ever more rarely."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0
        self._not_before = 0.0

    @property
    def open(self) -> bool:
        """Whether the last try failed."""
        return self._failures > 0

    def allows(self) -> bool:
        """Whether to try now; after a failure, of several that ask only one may."""
        with self._lock:
            now = time.monotonic()
            if now < self._not_before:
                return False
            if self._failures:
                self._not_before = now + self._pause()
            return True

    def succeeded(self) -> None:
        """All is well again."""
        with self._lock:
            self._failures, self._not_before = 0, 0.0

    def failed(self) -> None:
        """Something went wrong."""
        with self._lock:
            self._failures += 1
            self._not_before = time.monotonic() + self._pause()

    def _pause(self) -> float:
        return float(min(LONGEST_PAUSE_SECONDS, PAUSE_SECONDS * 2 ** min(self._failures - 1, 10)))


class RedisTier:
    """Keeps rows of one workload in Redis.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        workload: whose rows.
        timeout: seconds that :meth:`get` takes at most.

    Raises:
        BatchAssetsError: the address cannot be understood. That nobody answers there is no error.
    """

    def __init__(self, url: str, workload: Workload, timeout: float = TIMEOUT_SECONDS) -> None:
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        try:
            self._redis = Redis.from_url(
                url,
                socket_timeout=timeout,
                socket_connect_timeout=timeout,
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError as error:
            raise BatchAssetsError(f"serving_redis: {error}") from error
        self._workload = workload
        self._names = list(workload.predictions.columns)
        types = tuple(_type(kind) | None for kind, _ in workload.predictions.columns.values())
        self._decoder: Any = msgspec.msgpack.Decoder(tuple.__class_getitem__(types))
        self._timeout = timeout
        self._readers = ThreadPoolExecutor(4, f"redis {workload.name}")
        self._writer = ThreadPoolExecutor(1, f"redis {workload.name} writes")
        self._waiting = threading.BoundedSemaphore(MOST_WAITING)
        self.breaker = Breaker()
        self.counts: Counter[str] = Counter()

    def get(self, asked: Asked) -> dict[Value, Row]:
        """Rows that are there, by key; none if Redis does not answer in time."""
        if not asked or not self.breaker.allows():
            return {}
        # In a thread of its own, as a name server or a slow stream may take longer than a socket.
        reading = self._readers.submit(self._get, asked)
        try:
            found = reading.result(self._timeout)
        except Exception as error:
            reading.cancel()
            self._failed("read", error)
            return {}
        self.breaker.succeeded()
        return found

    def put(self, rows: Mapping[tuple[date, str], Sequence[Row]]) -> None:
        """Keep rows, soon; nobody waits for it."""
        self._later(lambda: self._put(rows))

    def follow(self, old: View, new: View) -> None:
        """Drop the days of an old view that a new one has anew, or not at all."""
        gone = [self._name(day, key) for day, key in old.days.items() if new.days.get(day) != key]
        if gone:
            self._later(lambda: self._redis.unlink(*gone))

    def stop(self) -> None:
        """Write what waits, and end the threads."""
        self._readers.shutdown(cancel_futures=True)
        self._writer.shutdown()
        self._redis.close()

    def _get(self, asked: Asked) -> dict[Value, Row]:
        pipe = self._redis.pipeline(transaction=False)
        for (day, version), keys in asked.items():
            pipe.hmget(self._name(day, version), [str(key) for key in keys])
        found: dict[Value, Row] = {}
        for ((day, _), keys), values in zip(asked.items(), pipe.execute(), strict=True):
            for key, value in zip(keys, values, strict=True):
                row = self._row(value, key, day) if value is not None else None
                if row is not None:
                    found.setdefault(key, row)
        return found

    def _row(self, value: bytes, key: Value, day: date) -> Row | None:
        """The row; None if it is not one of this key and day."""
        try:
            row = dict(zip(self._names, self._decoder.decode(value), strict=True))
        except msgspec.DecodeError:
            self.counts["damaged"] += 1
            return None
        return row if (row[self._workload.key], row["day"]) == (key, day) else None

    def _put(self, rows: Mapping[tuple[date, str], Sequence[Row]]) -> None:
        pipe = self._redis.pipeline(transaction=False)
        for (day, version), of_day in rows.items():
            name = self._name(day, version)
            values: dict[Any, Any] = {
                str(row[self._workload.key]): self._value(row) for row in of_day
            }
            small = {key: value for key, value in values.items() if len(value) <= MOST_BYTES}
            if small:
                pipe.hset(name, mapping=small)
                pipe.expire(name, EXPIRE_SECONDS)
        pipe.execute()

    def _value(self, row: Row) -> bytes:
        return msgspec.msgpack.encode([row[name] for name in self._names])

    def _name(self, day: date, version: str) -> str:
        return f"batch_assets:{_FORMAT}:{self._workload.name}:{day}:{version}"

    def _later(self, work: Callable[[], object]) -> None:
        if self.breaker.open or not self._waiting.acquire(blocking=False):
            self.counts["not kept"] += 1
            return

        def write() -> None:
            try:
                work()
            except Exception as error:
                self._failed("written", error)
            finally:
                self._waiting.release()

        self._writer.submit(write)

    def _failed(self, what: str, error: Exception) -> None:
        self.counts["failed"] += 1
        if not self.breaker.open:
            logger.warning("Redis is not asked for a while: it cannot be %s: %r", what, error)
        self.breaker.failed()


def _type(kind: pa.DataType) -> Any:
    return next((python for test, python in _TYPES.items() if test(kind)), Any)
