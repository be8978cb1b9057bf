"""Wall clocks: from milliseconds of a UTC day to the text that a source writes."""

import datetime
import functools
import zoneinfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa

DAY_MS = 86_400_000
HOUR_MS = 3_600_000

Ints = npt.NDArray[np.int64]


@functools.cache
def utc_offsets(zone: str, day: datetime.date) -> Ints:
    """Seconds that a zone's clock is ahead of UTC, for each of the 24 UTC hours of a day.

    Exact for zones that change their clock on a full UTC hour, as all of ours do.
    """
    tz = zoneinfo.ZoneInfo(zone)
    midnight = datetime.datetime.combine(day, datetime.time(), datetime.UTC)
    hours = [(midnight + datetime.timedelta(hours=hour)).astimezone(tz) for hour in range(24)]
    return np.array([_seconds(hour.utcoffset()) for hour in hours], dtype=np.int64)


def local_time(zone: str, day: datetime.date, utc_ms: Ints) -> Ints:
    """Local wall clock in ms since midnight of `day`: negative is the day before."""
    offsets: Ints = utc_offsets(zone, day)[utc_ms // HOUR_MS] * 1000
    return utc_ms + offsets


def spring_gap(zone: str, day: datetime.date) -> tuple[int, int] | None:
    """First and last second (of the local day) that the clock jumps over on `day`, if it does."""
    offsets = utc_offsets(zone, day)
    for hour in np.flatnonzero(np.diff(offsets) > 0):
        first = (int(hour) + 1) * 3600 + int(offsets[hour])
        return first, first + int(offsets[hour + 1] - offsets[hour]) - 1
    return None


def told_twice(zone: str, day: datetime.date, utc_ms: Ints) -> npt.NDArray[np.bool_]:
    """Which moments have a local time that the clock shows twice on `day` (autumn)."""
    offsets = utc_offsets(zone, day)
    twice = np.zeros(len(utc_ms), dtype=bool)
    for hour in np.flatnonzero(np.diff(offsets) < 0):
        back = int(offsets[hour] - offsets[hour + 1]) * 1000
        change = (int(hour) + 1) * HOUR_MS
        twice |= (utc_ms >= change - back) & (utc_ms < change + back)
    return twice


def date_text(day: datetime.date, local_ms: Ints, pattern: str) -> pa.Array:
    """The local date of each moment, by a strftime pattern."""
    around = [(day + datetime.timedelta(days=shift)).strftime(pattern) for shift in (-1, 0, 1)]
    return pa.array(around).take(pa.array(local_ms // DAY_MS + 1))


def clock_text(local_ms: Ints) -> pa.Array:
    """The local time of each moment as HH:MM:SS."""
    return _clock_texts().take(pa.array(local_ms % DAY_MS // 1000))


def offset_text(zone: str, day: datetime.date, utc_ms: Ints) -> pa.Array:
    """The zone's offset at each moment, as +HH:MM or -HH:MM."""
    texts = []
    for seconds in utc_offsets(zone, day).tolist():
        hours, minutes = divmod(abs(seconds) // 60, 60)
        texts.append(f"{'-' if seconds < 0 else '+'}{hours:02}:{minutes:02}")
    return pa.array(texts).take(pa.array(utc_ms // HOUR_MS))


@functools.cache
def _clock_texts() -> pa.Array:
    two = [f"{number:02}" for number in range(60)]
    return pa.array([f"{h}:{m}:{s}" for h in two[:24] for m in two for s in two])


def _seconds(offset: datetime.timedelta | None) -> int:
    return 0 if offset is None else int(offset.total_seconds())
