import datetime
import zoneinfo

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_assets.simulate import clock

ZONES = st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Tokyo"])
DAYS = st.dates(datetime.date(2020, 1, 1), datetime.date(2035, 12, 31))


@settings(deadline=None)
@given(ZONES, DAYS, st.integers(0, clock.DAY_MS - 1))
def test_texts_name_the_moment(zone: str, day: datetime.date, utc_ms: int) -> None:
    moments = np.array([utc_ms])
    local = clock.local_time(zone, day, moments)
    (date,) = clock.date_text(day, local, "%Y-%m-%d").to_pylist()
    (time,) = clock.clock_text(local).to_pylist()
    (offset,) = clock.offset_text(zone, day, moments).to_pylist()
    midnight = datetime.datetime.combine(day, datetime.time(), datetime.UTC)
    expected = midnight + datetime.timedelta(milliseconds=utc_ms // 1000 * 1000)
    assert datetime.datetime.fromisoformat(f"{date}T{time}{offset}") == expected
    assert expected.astimezone(zoneinfo.ZoneInfo(zone)).isoformat() == f"{date}T{time}{offset}"


@settings(deadline=None)
@given(ZONES, DAYS, st.integers(0, 1439))
def test_told_twice_agrees_with_the_fold(zone: str, day: datetime.date, minute: int) -> None:
    (twice,) = clock.told_twice(zone, day, np.array([minute * 60_000]))
    midnight = datetime.datetime.combine(day, datetime.time(), datetime.UTC)
    local = (midnight + datetime.timedelta(minutes=minute)).astimezone(zoneinfo.ZoneInfo(zone))
    assert twice == (local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset())


def test_spring_gaps_are_the_hours_after_two_o_clock() -> None:
    two, before_three = 2 * 3600, 3 * 3600 - 1
    berlin, new_york = datetime.date(2026, 3, 29), datetime.date(2026, 3, 8)
    assert clock.spring_gap("Europe/Berlin", berlin) == (two, before_three)
    assert clock.spring_gap("America/New_York", new_york) == (two, before_three)
    assert clock.spring_gap("Europe/Berlin", new_york) is None
    assert clock.spring_gap("Europe/Berlin", datetime.date(2026, 10, 25)) is None
    assert clock.spring_gap("Asia/Tokyo", berlin) is None


def test_two_hours_of_an_autumn_day_are_told_twice() -> None:
    hours = np.arange(24) * clock.HOUR_MS
    twice = clock.told_twice("Europe/Berlin", datetime.date(2026, 10, 25), hours)
    assert np.flatnonzero(twice).tolist() == [0, 1]
