"""Lines of JSON objects as records of text, numbers as they are written."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from batch_assets.fraud.feeds import Feed
from batch_assets.fraud.records import bad_records, first_line, good_records
from batch_assets.fraud.streams import unwrap
from batch_assets.fraud.texts import NUMBERS


class _Number(str):
    """Text of a number that was not in quotation marks."""


def read_json_lines(feed: Feed, lines: Sequence[bytes], before: int) -> Iterator[pa.RecordBatch]:
    """Records of some lines of UTF-8; blank lines are none.

    Args:
        before: number of the line before the first of these.
    """
    parse = _parser(feed)
    numbers: list[int] = []
    records: list[dict[str, Any]] = []
    for number, line in enumerate(lines, before + 1):
        if line.isspace():
            continue
        try:
            records.append(parse(line))
            numbers.append(number)
        except (ValueError, RecursionError) as error:
            text = line.decode().rstrip("\r\n")
            reason = f"line is not a JSON object: {first_line(error)}"
            problem, text = unwrap(text) or (reason, text)
            yield bad_records([number], [text], problem)
    names = feed.columns.mapped()
    columns = {n: _column(feed, n, [r.get(s) for r in records]) for n, s in names.items()}
    yield good_records(numbers, columns, _others(records, set(names.values())))


def _parser(feed: Feed) -> Callable[[bytes], dict[str, Any]]:
    """A function from a line to a record, which raises ValueError or RecursionError."""
    # numbers have a point in JSON, whatever mark the feed has in text
    written = str if feed.decimal == "." else _Number
    strict = msgspec.json.Decoder(dict[str, Any], float_hook=written).decode

    def lenient(line: bytes) -> dict[str, Any]:
        record = json.loads(line, parse_float=written, parse_int=written)
        if not isinstance(record, dict):
            raise ValueError(f"it is {json.dumps(record)[:40]}")
        json.dumps(record, ensure_ascii=False).encode()  # half a surrogate pair is no text
        return record

    def parse(line: bytes) -> dict[str, Any]:
        try:
            return strict(line)
        except (msgspec.DecodeError, RecursionError):  # NaN, say
            return lenient(line)

    return parse


def _column(feed: Feed, name: str, values: list[Any]) -> pa.Array:
    if feed.decimal != "." and name in NUMBERS:
        values = [v.replace(".", feed.decimal) if type(v) is _Number else v for v in values]
    for kind in (pa.string(), pa.int64()):
        try:
            return pa.array(values, kind).cast(pa.string())
        except (pa.ArrowException, OverflowError):
            continue
    return pa.array([_text(v) for v in values], pa.string())


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _others(records: list[dict[str, Any]], mapped: set[str]) -> pa.Array:
    others: list[str | None] = []
    for record in records:
        rest = {k: v for k, v in record.items() if k not in mapped}
        others.append(_object(rest) if rest else None)
    return pa.array(others, pa.string())


def _object(record: dict[str, Any]) -> str:
    try:
        return msgspec.json.encode(record).decode()
    except (TypeError, OverflowError):  # a subclass of str, or a very large number
        return json.dumps(record, ensure_ascii=False)
