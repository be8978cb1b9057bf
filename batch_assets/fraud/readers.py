"""Files of any feed as record batches of text, so that one definition can judge them all.

Every batch has the columns of :data:`SCHEMA`. Nothing is converted here: a
record that cannot be taken apart keeps its text in ``line`` and says why in
``problem``; a file that cannot be read, or not to its end, adds one record
with row number 0.
"""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from batch_assets.fraud.feeds import COLUMNS_NEEDED, Feed
from batch_assets.fraud.streams import LineStream, unwrap

FIELDS = ("key", "customer", "terminal", "amount", "currency", "time", "label", "rate")
SCHEMA = pa.schema(
    [pa.field("row_number", pa.int64())]
    + [pa.field(name, pa.string()) for name in (*FIELDS, "other", "line", "problem")]
)
BLOCK_BYTES = 8 << 20
UNMAPPED_JSON_ROWS = 65_536


def read_records(feed: Feed, path: Path) -> Iterator[pa.RecordBatch]:
    """All records of one file, streamed; never raises for what is wrong with the file."""
    reader = {"csv": _read_csv, "jsonl": _read_jsonl, "parquet": _read_parquet}[feed.format]
    last = 0
    try:
        for batch in reader(feed, path):
            if batch.num_rows:
                last = max(last, batch["row_number"][-1].as_py())
                yield batch
    except (pa.ArrowException, OSError, UnicodeError, ValueError, EOFError) as error:
        what = f"file cannot be read {f'after record {last}' if last else 'at all'}: {_first_line(error)}"
        yield _bad_records([0], [None], what)


def _read_csv(feed: Feed, path: Path) -> Iterator[pa.RecordBatch]:
    skipped: dict[int, tuple[str, str]] = {}

    def skip(row: Any) -> str:
        wrong = f"record has {row.actual_columns} columns instead of {row.expected_columns}"
        skipped[row.number - 1] = unwrap(row.text, feed.delimiter) or (wrong, row.text)
        return "skip"

    with LineStream(path, feed.encoding, feed.delimiter) as stream:
        buffered = io.BufferedReader(stream, BLOCK_BYTES)
        start = buffered.peek(1)
        if start:
            names = _csv_header(feed, start)
            reader = pa.csv.open_csv(
                buffered,
                read_options=pa.csv.ReadOptions(
                    use_threads=False, block_size=BLOCK_BYTES, column_names=names, skip_rows=1
                ),
                parse_options=pa.csv.ParseOptions(
                    delimiter=feed.delimiter, invalid_row_handler=skip
                ),
                convert_options=pa.csv.ConvertOptions(
                    column_types={name: pa.string() for name in names}, strings_can_be_null=False
                ),
            )
            position = 0
            for batch in reader:
                numbers, position = _numbers(batch.num_rows, position, skipped)
                columns = {name: batch.column(i) for i, name in enumerate(names)}
                yield _mapped(feed, columns, numbers)
            for number, (wrong, text) in skipped.items():
                yield _bad_records([number], [text], wrong)
        yield from _stream_problem(stream)


def _csv_header(feed: Feed, start: bytes) -> list[str]:
    first = start.split(b"\n", 1)[0].decode().lstrip("\ufeff")
    row = pa.csv.read_csv(
        io.BytesIO((first.rstrip("\r") + "\n").encode()),
        read_options=pa.csv.ReadOptions(autogenerate_column_names=True),
        parse_options=pa.csv.ParseOptions(delimiter=feed.delimiter),
        convert_options=pa.csv.ConvertOptions(strings_can_be_null=False),
    )
    names = [str(column[0].as_py()).strip() for column in row.columns]
    seen: dict[str, int] = {}
    for i, name in enumerate(names):
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            names[i] = f"{name}#{seen[name]}"
    return names


def _numbers(rows: int, position: int, skipped: dict[int, Any]) -> tuple[np.ndarray, int]:
    """Record numbers of the next ``rows`` good records after ``position``, and the last of them."""
    upto = position + rows + len(skipped)
    bad = np.fromiter(skipped, np.int64, len(skipped))
    good = np.setdiff1d(np.arange(position + 1, upto + 1, dtype=np.int64), bad)[:rows]
    return good, int(good[-1]) if rows else position


def _read_jsonl(feed: Feed, path: Path) -> Iterator[pa.RecordBatch]:
    with LineStream(path, feed.encoding) as stream:
        buffered = io.BufferedReader(stream, BLOCK_BYTES)
        number = 0
        while lines := buffered.readlines(BLOCK_BYTES):
            yield from _json_batches(feed, lines, number)
            number += len(lines)
        yield from _stream_problem(stream)


def _json_batches(feed: Feed, lines: list[bytes], before: int) -> Iterator[pa.RecordBatch]:
    names = feed.columns.mapped()
    wanted = set(names.values())
    numbers: list[int] = []
    values: dict[str, list[str | None]] = {name: [] for name in names}
    others: list[str | None] = []
    for number, line in enumerate(lines, before + 1):
        if not line.strip():
            continue
        text = line.decode().rstrip("\r\n")
        if wrapped := unwrap(text):
            yield _bad_records([number], [wrapped[1]], wrapped[0])
            continue
        try:
            record = json.loads(text, parse_float=str, parse_int=str)
            if not isinstance(record, dict):
                raise ValueError("it is not an object")
        except (ValueError, RecursionError) as error:
            yield _bad_records([number], [text], f"line is not a JSON record: {_first_line(error)}")
            continue
        numbers.append(number)
        for name, source in names.items():
            values[name].append(_json_text(record.get(source)))
        rest = {k: v for k, v in record.items() if k not in wanted}
        others.append(json.dumps(rest, ensure_ascii=False) if rest else None)
    columns: dict[str, Any] = {n: pa.array(v, pa.string()) for n, v in values.items()}
    yield _batch(np.array(numbers, np.int64), columns, pa.array(others, pa.string()), None)


def _json_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _read_parquet(feed: Feed, path: Path) -> Iterator[pa.RecordBatch]:
    if path.stat().st_size == 0:
        return
    position = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=UNMAPPED_JSON_ROWS):
            numbers = np.arange(position + 1, position + batch.num_rows + 1, dtype=np.int64)
            position += batch.num_rows
            columns = {n: batch.column(i) for i, n in enumerate(batch.schema.names)}
            yield _mapped(feed, columns, numbers)


def _mapped(feed: Feed, columns: dict[str, pa.Array], numbers: np.ndarray) -> pa.RecordBatch:
    """Rename to canonical columns; what the feed does not map is kept as JSON."""
    names = feed.columns.mapped()
    texts = {n: _as_text(feed, n, columns[s]) for n, s in names.items() if s in columns}
    needed = [*COLUMNS_NEEDED[feed.kind], *([] if feed.currency else ["currency"])]
    absent = [names[n] for n in needed if n in names and names[n] not in columns]
    problem = None
    if absent:
        problem = f"file has no column {', '.join(absent)}; it has {', '.join(columns)}"
    rest = {n: c for n, c in columns.items() if n not in names.values()}
    return _batch(numbers, texts, _as_json(rest, len(numbers)), problem)


def _as_text(feed: Feed, name: str, column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_floating(column.type):
        return _decimal_text(column, name) if name in ("amount", "rate") else _float_text(column)
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        column = column.cast(pa.string())
    if pa.types.is_date(column.type):
        column = column.cast(pa.date32())
    text = column.cast(pa.string())
    if pa.types.is_decimal(column.type) and name in ("key", "customer", "terminal"):
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
        text = pa.array([None if v is None else f"{v:.10f}" for v in doubles.to_pylist()], pa.string())
    return pc.replace_substring_regex(text, r"\.?0+$", "")


def _float_text(column: pa.Array) -> pa.Array:
    """Whole numbers without ``.0``, so that a key that became a float stays the same key."""
    doubles = column.cast(pa.float64())
    whole = pc.and_(pc.equal(doubles, pc.floor(doubles)), pc.less(pc.abs(doubles), 2.0**53))
    integers = pc.if_else(whole, doubles, None).cast(pa.int64()).cast(pa.string())
    return pc.if_else(pc.fill_null(whole, False), integers, doubles.cast(pa.string()))


def _as_json(columns: dict[str, pa.Array], rows: int) -> pa.Array:
    if not columns:
        return pa.nulls(rows, pa.string())
    pieces: list[Any] = []
    for i, (name, column) in enumerate(columns.items()):
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        try:
            text = column.cast(pa.string())
        except pa.ArrowException:
            text = pa.array([json.dumps(v, default=str) for v in column.to_pylist()], pa.string())
        if not pa.types.is_integer(column.type):
            text = pc.replace_substring_regex(text, r'(["\\])', r"\\\1")
            text = pc.binary_join_element_wise('"', text, '"', "")
        pieces += [f"{', ' if i else '{'}{json.dumps(name)}: ", pc.fill_null(text, "null")]
    return pc.binary_join_element_wise(*pieces, "}", "")


def _stream_problem(stream: LineStream) -> Iterator[pa.RecordBatch]:
    if stream.problem:
        tail = stream.tail.decode("utf-8", errors="backslashreplace") or None
        yield _bad_records([0], [tail], stream.problem + "; this is what follows its last whole line")


def _bad_records(numbers: list[int], lines: list[str | None], problem: str) -> pa.RecordBatch:
    batch = {"row_number": pa.array(numbers, pa.int64()), "line": pa.array(lines, pa.string())}
    return _fill(batch, problem)


def _batch(
    numbers: np.ndarray, columns: dict[str, pa.Array], other: pa.Array, problem: str | None
) -> pa.RecordBatch:
    return _fill({"row_number": pa.array(numbers), "other": other, **columns}, problem)


def _fill(columns: dict[str, pa.Array], problem: str | None) -> pa.RecordBatch:
    rows = len(columns["row_number"])
    problems = pa.array([problem] * rows, pa.string()) if problem else pa.nulls(rows, pa.string())
    every = {name: pa.nulls(rows, pa.string()) for name in SCHEMA.names} | columns
    return pa.RecordBatch.from_arrays(
        [every[n] if n != "problem" else problems for n in SCHEMA.names], schema=SCHEMA
    )


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
