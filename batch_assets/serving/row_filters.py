"""Typed filters on the rows of a block, with the meaning they have in the vector store."""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_assets.serving.blocks import DayBlock
from batch_assets.serving.memory_index import Mask
from batch_assets.storage.tables import DAY
from batch_assets.storage.vectors import Equals, Filter, OneOf, Range


class Rows(Protocol):
    """Rows by column."""

    rows: int

    def column(self, name: str) -> pa.Array: ...


def matching(block: Rows, filters: Iterable[Filter], entities: Collection[str] = ()) -> Mask:
    """Which rows all filters let through, bool [rows].

    Args:
        filters: checked against the vector table's columns.
        entities: columns whose values the block finds by an index.
    """
    mask = np.ones(block.rows, np.bool_)
    for one in filters:
        if isinstance(block, DayBlock) and isinstance(one, Equals) and one.column in entities:
            some = np.zeros(block.rows, np.bool_)
            some[block.rows_of(one.column, one.value)] = True  # type: ignore[arg-type]
            mask &= some
        else:
            mask &= _mask(block, one)
    return mask


def _mask(block: Rows, one: Filter) -> Mask:
    if isinstance(block, DayBlock) and one.column == DAY:
        column = pa.repeat(pa.scalar(block.day), block.rows)
    else:
        column = block.column(one.column)
    match one:
        case Equals(_, value):
            conditions = [pc.equal(column, _scalar(column.type, value))]
        case OneOf(_, values):
            conditions = [pc.equal(column, _scalar(column.type, value)) for value in values]
            conditions = [_any(conditions, block.rows)]
        case Range(_, low, high):
            sides = ((pc.greater_equal, low), (pc.less_equal, high))
            conditions = [
                compare(column, _scalar(column.type, side))
                for compare, side in sides
                if side is not None
            ]
    mask = np.ones(block.rows, np.bool_)
    for condition in conditions:
        mask &= condition.fill_null(False).to_numpy(zero_copy_only=False)
    return mask


def _any(conditions: list[pa.Array], rows: int) -> pa.Array:
    found = pa.array(np.zeros(rows, np.bool_))
    for condition in conditions:
        found = pc.or_(found, condition.fill_null(False))
    return found


def _scalar(kind: pa.DataType, value: Any) -> pa.Scalar:
    """The value in the column's type; decimals keep their own places."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_decimal(kind):
        return pa.scalar(value if isinstance(value, Decimal) else Decimal(str(value)))
    if pa.types.is_floating(kind):
        return pa.scalar(float(value), pa.float64()).cast(kind, safe=False)
    if isinstance(value, datetime) and value.tzinfo is not None:
        value = value.astimezone(UTC)
        value = value if kind.tz else value.replace(tzinfo=None)
    return pa.scalar(value, kind)
