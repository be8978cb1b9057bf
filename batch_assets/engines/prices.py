"""What an hour of a device costs, by hour of the day, and what a run's time on it cost."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Kind = Literal["normal", "off-peak", "spot"]
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]
HOUR = 3600.0


def hours_of(span: str) -> list[int]:
    """Hours of the day in a span such as ``"9-17"`` or, over midnight, ``"22-6"``.

    Raises:
        ValueError: it is no such span.
    """
    begin, dash, end = span.partition("-")
    numbers = [int(text) for text in (begin, end) if text.isascii() and text.isdigit()]
    first, last = numbers if dash and len(numbers) == 2 else (0, 0)
    if first > 23 or last > 24 or first == last:
        raise ValueError(f"{span!r} is not a span of whole hours such as 9-17, 22-6 or 0-24")
    return [hour % 24 for hour in range(first, last if last > first else last + 24)]


class DevicePrices(BaseModel):
    """Price of one device for an hour.

    Args:
        normal: on demand, at any hour for which no other price is given.
        off_peak: span of hours, such as ``22-6`` -> price.
        spot: the same for a machine that may be taken away; goes before off-peak.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    normal: Price
    off_peak: dict[str, Price] = {}
    spot: dict[str, Price] = {}

    @field_validator("off_peak", "spot")
    @classmethod
    def _each_hour_once(cls, spans: dict[str, float]) -> dict[str, float]:
        seen: set[int] = set()
        for span in spans:
            hours = set(hours_of(span))
            if seen & hours:
                raise ValueError(f"hour {min(seen & hours)} has two prices")
            seen |= hours
        return spans

    def by_hour(self) -> list[tuple[float, Kind]]:
        """The price in force in each of the day's 24 hours, and which one it is."""
        table: list[tuple[float, Kind]] = [(self.normal, "normal")] * 24
        spans: list[tuple[Kind, dict[str, float]]] = [
            ("off-peak", self.off_peak),
            ("spot", self.spot),
        ]
        for kind, prices in spans:
            for span, price in prices.items():
                for hour in hours_of(span):
                    table[hour] = price, kind
        return table


@dataclass(frozen=True)
class Cost:
    """What device time cost.

    Attributes:
        per_device_hour: the average over the time, where the price changed meanwhile.
        kind: normal, off-peak or spot; several with a plus between, the longest first.
    """

    money: float
    per_device_hour: float
    kind: str


class Prices(BaseModel):
    """Prices of all devices that runs may have.

    Args:
        devices: ``cpu``, ``cuda``, ``mps``, or a part of a GPU's name such as ``H100``, which goes
            before ``cuda``. For a CPU it is the machine's price, for a GPU that of one of them.
        time_zone: in which the hours are meant.
        on_demand_utilisation: share of its time that a machine which waits for single requests
            is busy; 1 flatters it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    currency: str = "EUR"
    time_zone: ZoneInfo = ZoneInfo("UTC")
    devices: dict[str, DevicePrices] = {}
    on_demand_utilisation: float = Field(1.0, gt=0, le=1)

    @field_validator("currency")
    @classmethod
    def _iso_code(cls, value: str) -> str:
        if not (len(value) == 3 and value.isascii() and value.isalpha() and value.isupper()):
            raise ValueError("expected an ISO 4217 code such as EUR")
        return value

    @field_validator("time_zone", mode="before")
    @classmethod
    def _known_zone(cls, value: object) -> object:
        try:
            return ZoneInfo(value) if isinstance(value, str) else value
        except (ValueError, OSError, KeyError):
            raise ValueError(f"{value!r} is not an IANA time zone such as Europe/Berlin") from None

    @model_validator(mode="before")
    @classmethod
    def _a_table(cls, value: object) -> object:
        if not isinstance(value, dict | Prices):
            raise ValueError("expected a table, such as [prices.devices.cpu] with normal = 0.20")
        return value

    def of(self, device: str, name: str = "") -> DevicePrices | None:
        """Prices of a device such as ``cuda:0``, with the name that its maker gave it, if any."""
        named = [key for key in self.devices if key.lower() in name.lower()]
        return self.devices.get(max(named, key=len, default=device.partition(":")[0]))

    def cost(
        self,
        device: str,
        started_at: datetime,
        elapsed: float,
        devices: float = 1,
        name: str = "",
    ) -> Cost | None:
        """What a run cost: each hour of the day at its own price.

        Args:
            started_at: with its time zone.
            elapsed: seconds that passed.
            devices: that were held for that time; half a one where two runs shared it.

        Returns:
            None where the device has no price.
        """
        prices = self.of(device, name)
        if prices is None:
            return None
        table, paid = prices.by_hour(), 0.0
        seconds: dict[Kind, float] = defaultdict(float)
        for hour, part in self._parts(started_at, elapsed):
            price, kind = table[hour]
            seconds[kind] += part
            paid += price * part
        total = sum(seconds.values())
        average = paid / total if total else price
        kinds = sorted(seconds, key=lambda kind: -seconds[kind])
        return Cost(average * elapsed * devices / HOUR, average, "+".join(kinds))

    def _parts(self, started_at: datetime, elapsed: float) -> Iterator[tuple[int, float]]:
        """The time in parts that do not cross an hour of the wall clock: hour, seconds.

        At least one, so that no time at all has a price, too.
        """
        at = started_at.astimezone(UTC)
        end = at + timedelta(seconds=elapsed)
        while True:
            local = at.astimezone(self.time_zone)
            into = timedelta(
                minutes=local.minute, seconds=local.second, microseconds=local.microsecond
            )
            until = min(end, at + timedelta(hours=1) - into)
            yield local.hour, (until - at).total_seconds()
            at = until
            if at >= end:
                return
