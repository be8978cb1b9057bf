"""A run costs what each hour of its time costs, by the clock on the wall."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from batch_assets.engines.prices import HOUR, Prices, hours_of

NIGHT = {"normal": 1.0, "off_peak": {"22-6": 0.25}, "spot": {"2-4": 0.1}}
BERLIN = "Europe/Berlin"
TIMES = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)).map(
    lambda at: at.replace(tzinfo=UTC)
)
SECONDS = st.floats(0, 3 * 86_400)
ZONES = st.sampled_from(["UTC", BERLIN, "Asia/Kathmandu", "Australia/Lord_Howe"])


def prices(time_zone: str = "UTC", **devices: Any) -> Prices:
    return Prices.model_validate({"time_zone": time_zone, "devices": devices or {"cpu": NIGHT}})


def money(given_prices: Prices, start: datetime, seconds: float, devices: float = 1) -> float:
    found = given_prices.cost("cpu", start, seconds, devices)
    assert found is not None
    return found.money


def test_an_hour_over_each_border_is_paid_half_and_half() -> None:
    at = datetime(2026, 3, 10, tzinfo=UTC)
    found = prices().cost("cpu", at.replace(hour=21, minute=45), HOUR)
    assert found is not None
    assert found.money == pytest.approx(0.25 * 1.0 + 0.75 * 0.25)
    assert found.per_device_hour == pytest.approx(found.money)
    assert found.kind == "off-peak+normal"
    over_midnight = prices().cost("cpu", at - timedelta(minutes=30), HOUR)
    assert over_midnight is not None
    assert over_midnight.money == pytest.approx(0.25)
    assert over_midnight.kind == "off-peak"
    assert money(prices(), at, 24 * HOUR) == pytest.approx(16 * 1.0 + 6 * 0.25 + 2 * 0.1)


def test_on_the_days_when_the_clock_is_moved_the_night_is_an_hour_shorter_or_longer() -> None:
    midnight = ZoneInfo(BERLIN)
    spring = datetime(2026, 3, 29, tzinfo=midnight)
    autumn = datetime(2026, 10, 25, tzinfo=midnight)
    # of the spot hours, 2 to 4, one is missing in spring, and one is there twice in autumn
    assert money(prices(BERLIN), spring, 6 * HOUR) == pytest.approx(4 * 0.25 + 1 * 0.1 + 1.0)
    assert money(prices(BERLIN), autumn, 6 * HOUR) == pytest.approx(3 * 0.25 + 3 * 0.1)


@given(TIMES, SECONDS, st.floats(0, 1), ZONES)
def test_the_parts_of_a_run_cost_what_the_whole_costs(
    start: datetime, seconds: float, share: float, zone: str
) -> None:
    first = timedelta(seconds=round(seconds * share, 6))
    rest = seconds - first.total_seconds()
    parts = money(prices(zone), start, first.total_seconds()) + money(
        prices(zone), start + first, max(0.0, rest)
    )
    assert parts == pytest.approx(money(prices(zone), start, seconds), abs=1e-6)


@given(TIMES, SECONDS, ZONES)
def test_no_run_costs_less_than_the_cheapest_hour_or_more_than_the_dearest(
    start: datetime, seconds: float, zone: str
) -> None:
    found = money(prices(zone), start, seconds)
    assert 0.1 * seconds / HOUR - 1e-9 <= found <= 1.0 * seconds / HOUR + 1e-9


@given(TIMES, st.integers(0, 86_399))
def test_each_second_is_paid_at_the_price_of_its_hour(start: datetime, second: int) -> None:
    zone = ZoneInfo(BERLIN)
    at = start.replace(microsecond=0) + timedelta(seconds=second)
    hour = at.astimezone(zone).hour
    price = 0.1 if hour in (2, 3) else 0.25 if hour >= 22 or hour < 6 else 1.0
    assert money(prices(BERLIN), at, 1.0) == pytest.approx(price / HOUR)


def test_devices_held_at_once_are_all_paid() -> None:
    noon = datetime(2026, 3, 10, 12, tzinfo=UTC)
    assert money(prices(), noon, HOUR, devices=4) == pytest.approx(4.0)
    assert money(prices(), noon, HOUR, devices=0.5) == pytest.approx(0.5)


def test_a_run_of_no_time_costs_nothing_and_still_has_a_price() -> None:
    found = prices().cost("cpu", datetime(2026, 3, 10, 23, tzinfo=UTC), 0.0)
    assert found is not None
    assert (found.money, found.per_device_hour, found.kind) == (0.0, 0.25, "off-peak")


def test_the_most_exact_name_decides_and_a_device_without_a_price_has_none() -> None:
    normal = {"cuda": 1.0, "H100": 3.0, "h100 pcie": 2.0}
    given_prices = Prices.model_validate(
        {"devices": {name: {"normal": price} for name, price in normal.items()}}
    )
    named = {
        "": 1.0,
        "NVIDIA L4": 1.0,
        "NVIDIA H100 80GB HBM3": 3.0,
        "NVIDIA H100 PCIe": 2.0,
    }
    for name, price in named.items():
        found = given_prices.of("cuda:1", name)
        assert found is not None
        assert found.normal == price, name
    assert given_prices.of("cpu") is None
    assert given_prices.cost("cpu", datetime(2026, 3, 10, tzinfo=UTC), 10.0) is None


@pytest.mark.parametrize("span", "|7|7-7|0-0|24-0|24-24|7-25|-1-4|a-b|7.5-9|25-3|²-4".split("|"))
def test_what_is_no_span_of_hours_is_refused(span: str) -> None:
    with pytest.raises(ValueError, match="is not a span of whole hours such as 9-17"):
        hours_of(span)


@given(st.integers(0, 23), st.integers(0, 23))
def test_a_span_and_its_rest_are_the_day(first: int, last: int) -> None:
    if first == last:
        return
    span, rest = hours_of(f"{first}-{last}"), hours_of(f"{last}-{first}")
    assert sorted([*span, *rest]) == list(range(24))
    assert span[0] == first
    if first:
        assert hours_of(f"{first}-0") == hours_of(f"{first}-24")


def test_an_hour_with_two_prices_is_refused() -> None:
    with pytest.raises(ValidationError, match="hour 5 has two prices"):
        prices(cpu={"normal": 1.0, "spot": {"22-6": 0.1, "5-7": 0.2}})
