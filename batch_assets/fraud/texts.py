"""Arrow columns of any type as the text that a person would write for them."""

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

NUMBERS = ("amount", "rate")
KEYS = ("key", "customer", "terminal")


def as_text(column: pa.Array, name: str, decimal: str = ".") -> pa.Array:
    """One column as text; never raises for what is in it.

    Args:
        name: canonical name, which decides how numbers are written.
        decimal: decimal mark of the feed, which numbers are written with, too.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    try:
        text = _plain_text(column, name)
    except pa.ArrowException:
        text = pa.array([_value_text(v) for v in column.to_pylist()], pa.string())
    if decimal != "." and name in NUMBERS and _has_decimals(column.type):
        text = pc.replace_substring(text, ".", decimal)
    return text


def _has_decimals(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _plain_text(column: pa.Array, name: str) -> pa.Array:
    if pa.types.is_floating(column.type):
        return _decimal_text(column, name) if name in NUMBERS else _float_text(column)
    if pa.types.is_date(column.type):
        column = column.cast(pa.date32())
    text = column.cast(pa.string())
    if pa.types.is_decimal(column.type) and name in KEYS:
        text = pc.replace_substring_regex(text, r"\.0*$", "")
    return text


def _decimal_text(column: pa.Array, name: str) -> pa.Array:
    """Binary fractions back to the decimals that they stand for; not a number is missing."""
    doubles = column.cast(pa.float64())
    doubles = pc.if_else(pc.fill_null(pc.is_finite(doubles), False), doubles, None)
    try:
        if name == "rate":  # few rows, many places
            raise pa.ArrowInvalid
        text = doubles.cast(pa.decimal128(38, 6), safe=False).cast(pa.string())
    except pa.ArrowException:
        text = pa.array(
            [None if v is None else f"{v:.10f}" for v in doubles.to_pylist()], pa.string()
        )
    return pc.replace_substring_regex(text, r"\.?0+$", "")


def _float_text(column: pa.Array) -> pa.Array:
    """Whole numbers without ``.0``, so that a key that became a float stays the same key."""
    doubles = column.cast(pa.float64())
    doubles = pc.if_else(pc.fill_null(pc.is_nan(doubles), False), None, doubles)
    whole = pc.and_(pc.equal(doubles, pc.floor(doubles)), pc.less(pc.abs(doubles), 2.0**53))
    integers = pc.if_else(whole, doubles, None).cast(pa.int64()).cast(pa.string())
    return pc.if_else(pc.fill_null(whole, False), integers, doubles.cast(pa.string()))


def _value_text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def as_json(columns: Mapping[str, pa.Array], rows: int) -> pa.Array:
    """The columns of each row as one JSON object; null where there are no columns."""
    if not columns:
        return pa.nulls(rows, pa.string())
    pieces: list[Any] = []
    for i, (name, column) in enumerate(columns.items()):
        opening = f"{', ' if i else '{'}{json.dumps(name, ensure_ascii=False)}: "
        pieces += [opening, pc.fill_null(_json_values(column), "null")]
    return pc.binary_join_element_wise(*pieces, "}", "")


def _json_values(column: pa.Array) -> pa.Array:
    text = as_text(column, "other")
    if pa.types.is_integer(column.type) or pa.types.is_boolean(column.type):
        return text
    if pc.any(pc.match_substring_regex(text, r"[\x00-\x1f]")).as_py():
        values = [
            None if v is None else json.dumps(v, ensure_ascii=False) for v in text.to_pylist()
        ]
        return pa.array(values, pa.string())
    text = pc.replace_substring_regex(text, r'(["\\])', r"\\\1")
    return pc.binary_join_element_wise('"', text, '"', "")
