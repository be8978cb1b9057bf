"""Which days a reader may see: a range of days, and the version that each must carry."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from batch_assets.storage.vectors.filters import column_sql, literal_sql
from batch_assets.storage.vectors.fragments import DayState, FragmentDays, merge_days
from batch_assets.storage.vectors.table import VectorTable

Days = tuple[date | None, date | None]
"""First and last day, both included; None leaves a side open."""


@dataclass(frozen=True)
class Scope:
    """The rows a reader may see.

    Arguments:
        sql: the condition in Lance's filter language; None if every row may be seen.
        days: the days with at least one such row.
        rows: at most so many rows are seen; exactly so many if no day carries two versions.
    """

    sql: str | None
    days: frozenset[date]
    rows: int


def scope(
    spec: VectorTable,
    fragments: Sequence[FragmentDays],
    days: Days | None = None,
    valid: Mapping[date, str] | None = None,
) -> Scope:
    """What a reader may see of these fragments.

    Arguments:
        spec: the table.
        fragments: all fragments of the version that is read.
        days: the range of days; None for all.
        valid: the version that each day's rows must carry; a day that it does not name is
            not seen at all. None accepts every version.
    """
    present = merge_days(list(fragments))
    inside = {day: state for day, state in present.items() if _within(day, days)}
    whole = [day for day, state in inside.items() if _carries_only(state, day, valid)]
    partly = [
        day
        for day, state in inside.items()
        if valid is not None
        and len(state.version_keys) > 1
        and valid.get(day) in state.version_keys
    ]
    seen = [*whole, *partly]
    return Scope(
        sql=_sql(spec, present, whole, partly, valid or {}),
        days=frozenset(seen),
        rows=sum(present[day].rows for day in seen),
    )


def _within(day: date, days: Days | None) -> bool:
    """Whether a day lies in the range."""
    first, last = days or (None, None)
    return (first is None or day >= first) and (last is None or day <= last)


def _carries_only(state: DayState, day: date, valid: Mapping[date, str] | None) -> bool:
    """Whether all rows of a day have the version that is asked for."""
    return valid is None or (state.version_key is not None and state.version_key == valid.get(day))


def _sql(
    spec: VectorTable,
    present: Iterable[date],
    whole: Sequence[date],
    partly: Sequence[date],
    valid: Mapping[date, str],
) -> str | None:
    """The condition, as short as these days allow."""
    hidden = [day for day in present if day not in set(whole)]
    if not hidden:
        return None
    name, version = column_sql(spec, spec.day), column_sql(spec, spec.version_column)
    parts = [_among(spec, name, whole, hidden)] if whole else []
    for day in partly:
        of_day = f"{name} = {literal_sql(spec, spec.day, day)}"
        of_version = f"{version} = {literal_sql(spec, spec.version_column, valid[day])}"
        parts.append(f"({of_day} AND {of_version})")
    return f"({' OR '.join(parts)})" if parts else "false"


def _among(spec: VectorTable, name: str, whole: Sequence[date], hidden: Sequence[date]) -> str:
    """The condition for whole days: one stretch if nothing in it is hidden, else a list."""
    first, last = min(whole), max(whole)
    if not any(first <= day <= last for day in hidden):
        low, high = (literal_sql(spec, spec.day, day) for day in (first, last))
        return f"({name} >= {low} AND {name} <= {high})"
    listed = ", ".join(literal_sql(spec, spec.day, day) for day in whole)
    return f"{name} IN ({listed})"
