"""A home with real results that takes seconds to make."""

from datetime import date, datetime, timedelta
from pathlib import Path

from batch_assets_tests.fraud.zone import START, Zone, days, put_any_model_live

DAYS = 12
ROWS_A_DAY = 60
NEWEST = days(DAYS)[-1]


def rows_of_day(day: date) -> list[tuple[str, str, str, str, datetime]]:
    """Id, customer, terminal, amount and time of a day's transactions, always the same."""
    midnight = datetime(day.year, day.month, day.day)
    return [
        (
            f"t-{day}-{n}",
            f"cust{n % 5}",
            f"shop{n % 3}",
            f"{(n * 37 + day.day * 11) % 97 + 0.25:.2f}",
            midnight + timedelta(seconds=1_400 * n + day.day),
        )
        for n in range(ROWS_A_DAY)
    ]


def key_of(day: date = START, n: int = 0) -> str:
    """The id of a transaction."""
    return rows_of_day(day)[n][0]


def make_home(home: Path) -> None:
    """Score twelve days of sixty transactions; BATCH_ASSETS_HOME has to be this home."""
    zone = Zone(home).describe()
    for day in days(DAYS):
        zone.deliver(day, rows_of_day(day))
        if day - START >= timedelta(7):
            known = rows_of_day(day - timedelta(7))[::9]
            zone.label(day, [(row[0], row[4], 1) for row in known])
    pipeline = zone.pipeline()
    put_any_model_live(pipeline)
    pipeline.update(days(DAYS))
