"""Files of any feed as record batches of text, so that one definition can judge them all.

Every batch has the columns of :data:`SCHEMA`. Nothing is converted here: a
record that cannot be taken apart keeps its text in ``line`` and says why in
``problem``; a file that cannot be read, or not to its end, adds one record
with row number 0. Row numbers count the lines of a text file from 1, those of
CSV from the line after the header; blank lines count and are no records.
"""

import io
from collections.abc import Iterator, Mapping
from itertools import dropwhile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from batch_assets.fraud.feeds import COLUMNS_NEEDED, Feed
from batch_assets.fraud.json_lines import read_json_lines
from batch_assets.fraud.records import SCHEMA, bad_records, first_line, good_records
from batch_assets.fraud.streams import LineStream, unwrap
from batch_assets.fraud.texts import as_json, as_text

__all__ = ["SCHEMA", "read_records"]

CSV_BLOCK_BYTES = 8 << 20  # several times the longest line that a stream gives
JSON_BLOCK_BYTES = 2 << 20
PARQUET_ROWS = 65_536


def read_records(feed: Feed, path: Path) -> Iterator[pa.RecordBatch]:
    """All records of one file, streamed; never raises for what is wrong with the file."""
    reader = {"csv": _read_csv, "jsonl": _read_jsonl, "parquet": _read_parquet}[feed.format]
    last = 0
    try:
        for batch in reader(feed, path):
            if batch.num_rows:
                last = max(last, batch["row_number"][-1].as_py())
                yield batch
    except (pa.ArrowException, OSError, ValueError, EOFError) as error:
        where = f"after record {last}" if last else "at all"
        yield bad_records([0], [None], f"file cannot be read {where}: {first_line(error)}")


def _read_csv(feed: Feed, path: Path) -> Iterator[pa.RecordBatch]:
    with LineStream(path, feed.encoding, feed.delimiter) as stream:
        lines = io.BufferedReader(stream, CSV_BLOCK_BYTES)
        header = next(dropwhile(_is_blank, lines), b"")
        names, problem = _csv_header(feed, header)
        if problem:
            yield bad_records([0], [_text(header)], problem)
            yield from _lines_without_header(feed, lines)
        elif names and lines.peek(1):
            yield from _csv_batches(feed, lines, names)
        yield from _stream_problem(stream)


def _is_blank(line: bytes) -> bool:
    return not line.strip() or unwrap(line.decode()) == ("", "")


def _text(line: bytes) -> str:
    return line.decode().rstrip("\r\n")


def _csv_header(feed: Feed, line: bytes) -> tuple[list[str], str | None]:
    """Names of the columns, each once; or why there are none."""
    if not line:
        return [], None
    if wrapped := unwrap(_text(line), feed.delimiter):
        return [], f"the header cannot be read: {wrapped[0]}"
    row = pa.csv.read_csv(
        io.BytesIO(line.rstrip(b"\r\n") + b"\n"),
        read_options=pa.csv.ReadOptions(autogenerate_column_names=True),
        parse_options=pa.csv.ParseOptions(delimiter=feed.delimiter),
        convert_options=pa.csv.ConvertOptions(strings_can_be_null=False),
    )
    names = [str(column[0].as_py()).strip() for column in row.columns]
    if len(names) == 1:
        return [], f"the header has one column with the delimiter {feed.delimiter!r}"
    seen: dict[str, int] = {}
    for i, name in enumerate(names):
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            names[i] = f"{name}#{seen[name]}"
    return names, None


def _lines_without_header(
    feed: Feed, lines: "io.BufferedReader[LineStream]"
) -> Iterator[pa.RecordBatch]:
    position = 0
    while block := lines.readlines(JSON_BLOCK_BYTES):
        texts = {n: line for n, line in enumerate(block, position + 1) if not _is_blank(line)}
        position += len(block)
        whole = [(unwrap(_text(t), feed.delimiter) or ("", _text(t)))[1] for t in texts.values()]
        yield bad_records(list(texts), whole, "the header of the file cannot be read")


def _csv_batches(
    feed: Feed, lines: "io.BufferedReader[LineStream]", names: list[str]
) -> Iterator[pa.RecordBatch]:
    skipped: dict[int, tuple[str, str]] = {}

    def skip(row: Any) -> str:
        wrong = f"record has {row.actual_columns} columns instead of {row.expected_columns}"
        text = row.text.strip() and row.text
        skipped[row.number] = unwrap(text, feed.delimiter) or (wrong if text else "", text)
        return "skip"

    reader = pa.csv.open_csv(
        lines,
        read_options=pa.csv.ReadOptions(
            use_threads=False, block_size=CSV_BLOCK_BYTES, column_names=names
        ),
        parse_options=pa.csv.ParseOptions(delimiter=feed.delimiter, invalid_row_handler=skip),
        convert_options=pa.csv.ConvertOptions(
            column_types={name: pa.string() for name in names}, strings_can_be_null=False
        ),
    )
    position = 0
    for batch in reader:
        numbers, position = _numbers(batch.num_rows, position, skipped)
        columns = {name: batch.column(i) for i, name in enumerate(names)}
        yield _mapped(feed, columns, numbers)
        yield from _skipped_records(skipped, position)
    yield from _skipped_records(skipped, max(skipped, default=0))


def _numbers(
    rows: int, position: int, skipped: Mapping[int, Any]
) -> tuple[np.ndarray[Any, Any], int]:
    """Numbers of the next ``rows`` good records after ``position``.

    Returns:
        The numbers, and the last record up to which all are known.
    """
    upto = position + rows + len(skipped)
    bad = np.fromiter(skipped, np.int64, len(skipped))
    good = np.setdiff1d(np.arange(position + 1, upto + 1, dtype=np.int64), bad)[:rows]
    position = int(good[-1]) if rows else position
    while position + 1 in skipped:
        position += 1
    return good, position


def _skipped_records(skipped: dict[int, tuple[str, str]], upto: int) -> Iterator[pa.RecordBatch]:
    """Take the skipped records with these numbers; blank lines are none."""
    by_problem: dict[str, list[tuple[int, str]]] = {}
    for number in [n for n in skipped if n <= upto]:
        problem, text = skipped.pop(number)
        if problem:
            by_problem.setdefault(problem, []).append((number, text))
    for problem, records in by_problem.items():
        yield bad_records([n for n, _ in records], [text for _, text in records], problem)


def _read_jsonl(feed: Feed, path: Path) -> Iterator[pa.RecordBatch]:
    with LineStream(path, feed.encoding) as stream:
        buffered = io.BufferedReader(stream, JSON_BLOCK_BYTES)
        number = 0
        while lines := buffered.readlines(JSON_BLOCK_BYTES):
            yield from read_json_lines(feed, lines, number)
            number += len(lines)
        yield from _stream_problem(stream)


def _read_parquet(feed: Feed, path: Path) -> Iterator[pa.RecordBatch]:
    if path.stat().st_size == 0:
        return
    position = 0
    with pq.ParquetFile(path, pre_buffer=False) as file:
        for batch in file.iter_batches(batch_size=PARQUET_ROWS):
            numbers = np.arange(position + 1, position + batch.num_rows + 1, dtype=np.int64)
            position += batch.num_rows
            columns = {n: batch.column(i) for i, n in enumerate(batch.schema.names)}
            yield _mapped(feed, columns, numbers)


def _mapped(
    feed: Feed, columns: Mapping[str, pa.Array], numbers: np.ndarray[Any, Any]
) -> pa.RecordBatch:
    """Rename to canonical columns; what the feed does not map is kept as JSON."""
    names = feed.columns.mapped()
    texts = {n: as_text(columns[s], n, feed.decimal) for n, s in names.items() if s in columns}
    needed = [*COLUMNS_NEEDED[feed.kind], *([] if feed.currency else ["currency"])]
    absent = [names[n] for n in needed if n in names and names[n] not in columns]
    problem = None
    if absent:
        problem = f"file has no column {', '.join(absent)}; it has {', '.join(columns)}"
    rest = {n: c for n, c in columns.items() if n not in names.values()}
    return good_records(numbers, texts, as_json(rest, len(numbers)), problem)


def _stream_problem(stream: LineStream) -> Iterator[pa.RecordBatch]:
    if stream.problem:
        tail = stream.tail.decode("utf-8", errors="backslashreplace") or None
        yield bad_records(
            [0], [tail], stream.problem + "; this is what follows its last whole line"
        )
