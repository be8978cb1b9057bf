"""The daily partitions. Days are UTC; the one that is still running can be built, too."""

from datetime import date

from dagster import DailyPartitionsDefinition

from batch_assets.settings import load_settings

DAILY = DailyPartitionsDefinition(start_date=str(load_settings().start_date), end_offset=1)


def days_of(partition_keys: list[str] | tuple[str, ...]) -> list[date]:
    """Partition keys as dates, ascending."""
    return sorted(date.fromisoformat(key) for key in partition_keys)
