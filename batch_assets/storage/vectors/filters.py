"""Typed filters, and how they become Lance's filter language.

A filter names a column of the table and values of that column's type. No text of a caller
ever becomes part of a filter except as a quoted literal.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

from batch_assets.storage.vectors.errors import VectorStoreError
from batch_assets.storage.vectors.table import VectorTable

Value = str | int | float | bool | Decimal | date | datetime


@dataclass(frozen=True)
class Equals:
    """Rows whose column has this value."""

    column: str
    value: Value


@dataclass(frozen=True)
class OneOf:
    """Rows whose column has one of these values; none match if there are no values."""

    column: str
    values: Sequence[Value]


@dataclass(frozen=True)
class Range:
    """Rows whose column lies between `low` and `high`, both included; None leaves a side open.

    Example:
        >>> Range("amount", low=Decimal("99.50"))
        Range(column='amount', low=Decimal('99.50'), high=None)
    """

    column: str
    low: Value | None = None
    high: Value | None = None


Filter = Equals | OneOf | Range


def filter_sql(spec: VectorTable, filters: Iterable[Filter]) -> str | None:
    """The filters, all of which must hold, in Lance's language; None if there are none.

    Raises:
        VectorStoreError: an unknown column, or a value that does not fit the column's type.
    """
    clauses = [clause for one in filters for clause in _clauses(spec, one)]
    return " AND ".join(clauses) or None


def column_sql(spec: VectorTable, column: str) -> str:
    """A column's quoted name; only names in the schema pass."""
    if column not in spec.schema.names:
        raise VectorStoreError(
            f"Vector table {spec.name} has no column {column!r}. "
            f"Filter by one of: {', '.join(spec.schema.names)}."
        )
    return f"`{column}`"


def literal_sql(spec: VectorTable, column: str, value: Value) -> str:
    """A value as a literal of the column's type."""
    kind = spec.schema.field(column).type
    literal = _literal(kind, value)
    if literal is None:
        raise VectorStoreError(
            f"Vector table {spec.name}: {value!r} cannot be compared with column {column!r}, "
            f"which is {kind}. Give a value of that type."
        )
    return literal


def _clauses(spec: VectorTable, one: Filter) -> list[str]:
    """One filter's clauses."""
    name = column_sql(spec, one.column)
    match one:
        case Equals(column, value):
            return [f"{name} = {literal_sql(spec, column, value)}"]
        case OneOf(column, values):
            listed = ", ".join(literal_sql(spec, column, value) for value in values)
            return [f"{name} IN ({listed})" if listed else "false"]
        case Range(column, low, high):
            sides = ((">=", low), ("<=", high))
            return [
                f"{name} {sign} {literal_sql(spec, column, side)}"
                for sign, side in sides
                if side is not None
            ]


def _literal(kind: pa.DataType, value: Any) -> str | None:
    """The literal, or None where the value does not fit the type."""
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _text(value) if isinstance(value, str) else None
    if pa.types.is_boolean(kind):
        return str(value).lower() if isinstance(value, bool) else None
    if isinstance(value, bool):
        return None
    if pa.types.is_integer(kind):
        return str(int(value)) if isinstance(value, int) and _fits(kind, value) else None
    if pa.types.is_floating(kind):
        return _number(value)
    if pa.types.is_decimal(kind):
        return _decimal(value)
    if pa.types.is_date(kind):
        plain = isinstance(value, date) and not isinstance(value, datetime)
        return f"DATE '{value.isoformat()}'" if plain else None
    if pa.types.is_timestamp(kind):
        return _timestamp(kind, value)
    return None


def _text(value: str) -> str:
    """A text literal; a quote is the only character that needs care."""
    return "'" + value.replace("'", "''") + "'"


def _fits(kind: pa.DataType, value: int) -> bool:
    """Whether an integer type holds this value."""
    try:
        pa.scalar(value, kind)
    except (OverflowError, pa.ArrowInvalid):
        return False
    return True


def _number(value: Any) -> str | None:
    """A finite number; Lance rounds it to the column's precision."""
    if not isinstance(value, int | float | Decimal) or not math.isfinite(value):
        return None
    return repr(float(value))


def _decimal(value: Any) -> str | None:
    """A decimal with its own number of places, so that nothing is rounded."""
    if not isinstance(value, int | float | Decimal) or not math.isfinite(value):
        return None
    exact = value if isinstance(value, Decimal) else Decimal(str(value))
    digits = f"{exact:f}"
    places = len(digits.partition(".")[2])
    if len(digits.lstrip("-").replace(".", "")) > 38:
        return None
    return f"CAST('{digits}' AS DECIMAL(38,{places}))"


def _timestamp(kind: pa.DataType, value: Any) -> str | None:
    """A moment; one with an offset is turned into UTC, one without is taken as it is."""
    if not isinstance(value, datetime):
        return None
    naive = value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)
    literal = f"TIMESTAMP '{naive.isoformat(sep=' ', timespec='microseconds')}'"
    return literal if kind.tz is None else f"CAST({literal} AS TIMESTAMP WITH TIME ZONE)"
