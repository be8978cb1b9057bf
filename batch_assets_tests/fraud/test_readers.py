"""Readers: every line of a file comes back as a record or with a reason, whatever is in it."""

import csv
import gzip
import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from batch_assets.fraud import readers, streams
from batch_assets.fraud.feeds import Feed
from batch_assets.fraud.readers import SCHEMA, read_records

COLUMNS = {"key": "id", "customer": "who", "terminal": "where", "amount": "sum", "time": "when"}
HEADER = "id,who,where,sum,when\n"
GOOD = "1,c,t,12.10,2026-01-01\n"
Row = dict[str, Any]
small_blocks = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def feed(form: str = "csv", **changes: Any) -> Feed:
    entry = {"name": "f", "glob": "*", "currency": "EUR", "columns": COLUMNS, "format": form}
    return Feed.model_validate(entry | changes)


def read(path: Path, described: Feed) -> list[Row]:
    batches = list(read_records(described, path))
    assert all(batch.schema == SCHEMA for batch in batches)
    rows = [row for batch in batches for row in batch.to_pylist()]
    return sorted(rows, key=lambda row: row["row_number"])


def read_bytes(tmp_path: Path, content: bytes, form: str = "csv", **changes: Any) -> list[Row]:
    path = tmp_path / "file"
    path.write_bytes(content)
    return read(path, feed(form, **changes))


def read_text(tmp_path: Path, text: str, **changes: Any) -> list[Row]:
    return read_bytes(tmp_path, text.encode(changes.get("encoding", "utf-8")), **changes)


def numbers(rows: list[Row]) -> list[int]:
    return [row["row_number"] for row in rows]


def problems(rows: list[Row]) -> dict[int, str]:
    return {row["row_number"]: row["problem"] for row in rows if row["problem"]}


class TestCsv:
    def test_columns_get_their_canonical_names(self, tmp_path: Path) -> None:
        (row,) = read_text(tmp_path, HEADER + GOOD)
        assert [row[name] for name in COLUMNS] == ["1", "c", "t", "12.10", "2026-01-01"]
        assert (row["row_number"], row["problem"], row["other"]) == (1, None, None)

    def test_what_is_not_mapped_is_kept_as_json(self, tmp_path: Path) -> None:
        text = 'id,note,who,where,sum,when,note\n1,"say ""a\\b""\t",c,t,1,x,\n2,plain,c,t,1,x,y\n'
        first, second = read_text(tmp_path, text)
        assert json.loads(first["other"]) == {"note": 'say "a\\b"\t', "note#2": ""}
        assert json.loads(second["other"]) == {"note": "plain", "note#2": "y"}

    @pytest.mark.parametrize("ending", ["\n", "\r\n"])
    @pytest.mark.parametrize("last", [True, False])
    def test_line_ends_do_not_matter(self, tmp_path: Path, ending: str, last: bool) -> None:
        text = (HEADER + GOOD + GOOD).replace("\n", ending)
        rows = read_text(tmp_path, text if last else text.removesuffix(ending))
        assert [row["time"] for row in rows] == ["2026-01-01"] * 2

    @pytest.mark.parametrize("text", ["", HEADER, HEADER.strip(), "\n\n", f"\r\n{HEADER}\n\n"])
    def test_a_file_without_records_has_none(self, tmp_path: Path, text: str) -> None:
        assert read_text(tmp_path, text) == []

    def test_a_byte_order_mark_is_no_part_of_the_header(self, tmp_path: Path) -> None:
        (row,) = read_bytes(tmp_path, b"\xef\xbb\xbf" + (HEADER + GOOD).encode())
        assert (row["key"], row["problem"]) == ("1", None)

    @pytest.mark.parametrize(
        "encoding",
        ["latin-1", "cp1252", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp037", "shift_jis"],
    )
    def test_other_encodings_are_read_as_what_they_are(self, tmp_path: Path, encoding: str) -> None:
        name = "Jos\u00e9" if encoding != "shift_jis" else "\u6771\u4eac"
        text = HEADER.replace("who", name) + GOOD * 2
        rows = read_text(tmp_path, text, encoding=encoding, columns=COLUMNS | {"customer": name})
        assert [row["customer"] for row in rows] == ["c", "c"]
        assert problems(rows) == {}

    def test_a_mark_before_utf_16_of_a_named_order_is_no_text(self, tmp_path: Path) -> None:
        content = b"\xff\xfe" + (HEADER + GOOD).encode("utf-16-le")
        (row,) = read_bytes(tmp_path, content, encoding="utf-16-le")
        assert row["key"] == "1"

    def test_bytes_of_another_encoding_cost_their_line_alone(self, tmp_path: Path) -> None:
        rows = read_bytes(
            tmp_path, (HEADER + GOOD + "2,Jos\u00e9,t,1,x\n" + GOOD).encode("latin-1")
        )
        assert problems(rows) == {2: "bytes are not utf-8"}
        assert rows[1]["line"] == "2,Jos\\xe9,t,1,x"
        assert rows[2]["key"] == "1"

    def test_half_a_character_of_utf_16_is_told(self, tmp_path: Path) -> None:
        content = (HEADER + GOOD + GOOD).encode("utf-16-le")[:-1]
        rows = read_bytes(tmp_path, content, encoding="utf-16-le")
        assert problems(rows) == {2: "bytes are not utf-16-le"}

    def test_a_header_of_another_encoding_leaves_no_record_out(self, tmp_path: Path) -> None:
        content = (HEADER.replace("who", "H\u00e4ndler") + GOOD + "\n" + GOOD).encode("latin-1")
        rows = read_bytes(tmp_path, content)
        assert "bytes are not utf-8" in problems(rows)[0]
        assert numbers(rows) == [0, 1, 3]
        assert [row["line"] for row in rows[1:]] == [GOOD.strip()] * 2

    def test_a_wrong_delimiter_is_told(self, tmp_path: Path) -> None:
        rows = read_text(tmp_path, (HEADER + GOOD).replace(",", ";"))
        assert "one column with the delimiter ','" in problems(rows)[0]
        assert rows[1]["line"] == GOOD.strip().replace(",", ";")

    @pytest.mark.parametrize(("line", "columns"), [("1,c,t", 3), ("1,c,t,1,x,y", 6), ("what", 1)])
    def test_a_line_with_other_columns_is_kept_as_it_is(
        self, tmp_path: Path, line: str, columns: int
    ) -> None:
        rows = read_text(tmp_path, f"{HEADER}{GOOD}{line}\n{GOOD}")
        assert numbers(rows) == [1, 2, 3]
        assert problems(rows) == {2: f"record has {columns} columns instead of 5"}
        assert rows[1]["line"] == line

    @pytest.mark.parametrize(
        "line", ['1,"c,t,1,x', '1,a"b"c,"d,1,x', '"1,c,t,1,x', '1,c,t,1,"x', '1,"c""d,t,1,x']
    )
    def test_a_quotation_mark_left_open_costs_its_line_alone(
        self, tmp_path: Path, line: str
    ) -> None:
        rows = read_text(tmp_path, f"{HEADER}{GOOD}{line}\n{GOOD}")
        assert problems(rows) == {2: "a quotation mark is not closed on its line"}
        assert rows[1]["line"] == line
        assert [rows[0]["key"], rows[2]["key"]] == ["1", "1"]

    def test_quotation_marks_inside_a_column_are_characters(self, tmp_path: Path) -> None:
        (row,) = read_text(tmp_path, HEADER + '1,5" disk,a "b" c,"1,5",x\n')
        assert (row["customer"], row["terminal"], row["amount"]) == ('5" disk', 'a "b" c', "1,5")

    def test_only_a_line_feed_ends_a_line(self, tmp_path: Path) -> None:
        (row,) = read_text(tmp_path, HEADER + '1,"a\u2028b\x0bc\x85d",t,1,x\n')
        assert row["customer"] == "a\u2028b\x0bc\x85d"

    def test_blank_lines_are_no_records_but_count(self, tmp_path: Path) -> None:
        rows = read_text(tmp_path, f"\n{HEADER}\n{GOOD}\r\n  \n{GOOD}\nbad\n\n")
        assert numbers(rows) == [2, 5, 7]
        assert list(problems(rows)) == [7]

    def test_a_column_that_vanished_is_named_on_each_row(self, tmp_path: Path) -> None:
        rows = read_text(tmp_path, "id,who,Where,when\n1,c,t,x\n2,c,t,x\n")
        assert set(problems(rows)) == {1, 2}
        assert "no column where, sum; it has id, who, Where, when" in problems(rows)[1]
        assert json.loads(rows[0]["other"]) == {"Where": "t"}

    def test_a_line_far_too_long_costs_itself_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(streams, "_BLOCK_BYTES", 10)
        monkeypatch.setattr(streams, "LINE_BYTES", 40)
        rows = read_text(tmp_path, HEADER + GOOD + "x" * 500 + "\n" + GOOD)
        assert problems(rows) == {2: "line has 500 bytes, more than the 40 that are read"}
        assert rows[2]["key"] == "1"

    def test_a_line_that_looks_wrapped_is_no_danger(self, tmp_path: Path) -> None:
        lines = ["\x1a", "\x1ax", "\x1a\x1a\x1a", "\x1a,\x1a,", "\x1a\x1a"]
        rows = read_text(tmp_path, HEADER + "\n".join(lines) + f"\n{GOOD}")
        assert [row["line"] for row in rows] == [*lines, None]
        assert list(problems(rows)) == [1, 2, 3, 4, 5]
        assert rows[-1]["key"] == "1"


class TestJsonLines:
    def read(self, tmp_path: Path, *lines: str, **changes: Any) -> list[Row]:
        return read_text(tmp_path, "\n".join(lines) + "\n", form="jsonl", **changes)

    def test_numbers_keep_the_text_that_they_had(self, tmp_path: Path) -> None:
        line = '{"id": 123456789012345678901234567890, "sum": 12.10, "when": 1e3, "who": 7}'
        (row,) = self.read(tmp_path, line)
        assert row["key"] == "123456789012345678901234567890"
        assert (row["amount"], row["time"], row["customer"]) == ("12.10", "1e3", "7")

    def test_values_that_are_no_text_become_their_json(self, tmp_path: Path) -> None:
        rows = self.read(tmp_path, '{"id": true, "who": ["a"], "where": {"b": 1}, "sum": null}')
        assert [rows[0][n] for n in ("key", "customer", "terminal", "amount", "time")] == [
            "true",
            '["a"]',
            '{"b": 1}',
            None,
            None,
        ]

    def test_a_column_may_change_its_type_from_line_to_line(self, tmp_path: Path) -> None:
        lines = ('{"id": 1}', '{"id": "a"}', '{"id": true}', '{"id": null}', "{}", '{"id": 1.0}')
        rows = self.read(tmp_path, *lines)
        assert [row["key"] for row in rows] == ["1", "a", "true", None, None, "1.0"]

    def test_whole_numbers_of_any_size_stay_whole(self, tmp_path: Path) -> None:
        rows = self.read(tmp_path, '{"id": 9223372036854775808}', '{"id": 18446744073709551616}')
        assert [row["key"] for row in rows] == ["9223372036854775808", "18446744073709551616"]

    def test_numbers_have_a_point_in_json_where_text_has_a_comma(self, tmp_path: Path) -> None:
        rows = self.read(
            tmp_path,
            '{"sum": 1234.567, "when": 1.5}',
            '{"sum": "1.234,5"}',
            '{"sum": 3}',
            decimal=",",
        )
        assert [row["amount"] for row in rows] == ["1234,567", "1.234,5", "3"]
        assert rows[0]["time"] == "1.5"

    def test_what_is_not_mapped_is_kept(self, tmp_path: Path) -> None:
        (row,) = self.read(tmp_path, '{"id": 1, "note": "\u00e9", "more": {"a": [1, null]}}')
        assert json.loads(row["other"]) == {"note": "\u00e9", "more": {"a": [1, None]}}

    def test_not_a_number_is_read_like_python_writes_it(self, tmp_path: Path) -> None:
        (row,) = self.read(tmp_path, '{"id": "a", "sum": NaN, "x": 1.5}')
        assert (row["key"], row["amount"], row["problem"]) == ("a", "NaN", None)

    @pytest.mark.parametrize(
        "line",
        [
            *("{", "[1]", "3", '"a"', "null", "{}{}", '{"id": 1,}', '{"id": "\\ud800"}'),
            "[" * 100_000,
            '{"id": %s}' % ("9" * 5_000),
        ],
    )
    def test_a_line_that_is_no_object_is_kept_as_it_is(self, tmp_path: Path, line: str) -> None:
        rows = self.read(tmp_path, '{"id": 1}', line, '{"id": 2}')
        assert numbers(rows) == [1, 2, 3]
        if line.startswith('{"id": 9'):  # a number of any length is one
            assert rows[1]["key"] == "9" * 5_000
        else:
            assert problems(rows)[2].startswith("line is not a JSON object")
            assert rows[1]["line"] == line
        assert rows[2]["key"] == "2"

    def test_blank_lines_are_no_records_but_count(self, tmp_path: Path) -> None:
        assert numbers(self.read(tmp_path, "", '{"id": 1}', "  ", "\r", '{"id": 2}', "")) == [2, 5]

    def test_a_byte_order_mark_is_no_part_of_the_first_record(self, tmp_path: Path) -> None:
        (row,) = read_bytes(tmp_path, b'\xef\xbb\xbf{"id": 1}', "jsonl")
        assert (row["key"], row["problem"]) == ("1", None)

    def test_bytes_of_another_encoding_cost_their_line_alone(self, tmp_path: Path) -> None:
        rows = read_bytes(tmp_path, b'{"id": 1}\n{"id": "\xe9"}\n{"id": 3}', "jsonl")
        assert problems(rows) == {2: "bytes are not utf-8"}
        assert rows[1]["line"] == '{"id": "\\xe9"}'

    def test_other_encodings_are_read_as_what_they_are(self, tmp_path: Path) -> None:
        for encoding in ("latin-1", "utf-16"):
            (row,) = self.read(tmp_path, '{"id": "\u00e9"}', encoding=encoding)
            assert row["key"] == "\u00e9"


class TestArchives:
    def archive(self, lines: int) -> bytes:
        text = HEADER + "".join(f"{i},c,t,{i * 7919 % 1000},x\n" for i in range(1, lines + 1))
        return gzip.compress(text.encode(), mtime=0)

    def test_gzip_is_known_by_its_content(self, tmp_path: Path) -> None:
        assert numbers(read_bytes(tmp_path, self.archive(3))) == [1, 2, 3]

    def test_archives_one_behind_the_other_are_one_file(self, tmp_path: Path) -> None:
        content = gzip.compress(HEADER.encode()) + gzip.compress(GOOD.encode()) + b"\0" * 512
        rows = read_bytes(tmp_path, content)
        assert (numbers(rows), problems(rows)) == ([1], {})

    def test_a_truncated_archive_gives_its_whole_lines_and_what_follows_them(
        self, tmp_path: Path
    ) -> None:
        rows = read_bytes(tmp_path, self.archive(20_000)[:-20_000])
        assert len(rows) > 1_000
        assert numbers(rows) == list(range(len(rows)))
        assert "truncated or damaged" in problems(rows)[0]
        assert list(problems(rows)) == [0]
        number, _, rest = rows[0]["line"].partition(",")
        assert f"{len(rows)}".startswith(number) if rest else True

    def test_an_archive_that_expands_a_thousandfold_is_read_in_pieces(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sizes = []
        unpacked = streams._blocks

        def watched(*args: Any, **kwargs: Any) -> Any:
            for piece in unpacked(*args, **kwargs):
                sizes.append(len(piece))
                yield piece

        monkeypatch.setattr(streams, "_blocks", watched)
        content = gzip.compress((HEADER + GOOD * 1_000 + "x" * (20 << 20)).encode())
        rows = read_bytes(tmp_path, content)
        assert max(sizes) <= 1 << 20
        assert numbers(rows) == list(range(1, 1_002))
        assert list(problems(rows)) == [1_001]

    def test_a_damaged_archive_is_told(self, tmp_path: Path) -> None:
        content = bytearray(self.archive(5_000))
        content[len(content) // 2 : len(content) // 2 + 200] = b"\0" * 200
        rows = read_bytes(tmp_path, bytes(content))
        assert "truncated or damaged" in problems(rows)[0]

    def test_an_archive_of_lines_of_json_is_cut_likewise(self, tmp_path: Path) -> None:
        lines = "".join(f'{{"id": {i}, "sum": {i * 7919 % 1000}}}\n' for i in range(20_000))
        rows = read_bytes(tmp_path, gzip.compress(lines.encode())[:-10_000], "jsonl")
        assert numbers(rows) == list(range(len(rows)))
        assert list(problems(rows)) == [0]


class TestParquet:
    def read(self, tmp_path: Path, columns: dict[str, Any], **changes: Any) -> list[Row]:
        pq.write_table(pa.table(columns), tmp_path / "file")
        return read(tmp_path / "file", feed("parquet", **changes))

    def test_types_become_the_text_that_a_person_would_write(self, tmp_path: Path) -> None:
        (row,) = self.read(
            tmp_path,
            {
                "id": pa.array([7], pa.int32()),
                "who": pa.array([b"c"], pa.binary()),
                "where": pa.array(["t"]).dictionary_encode(),
                "sum": pa.array([12.1], pa.float64()),
                "when": pa.array([datetime(2026, 1, 1, 5, tzinfo=UTC)], pa.timestamp("ms", "UTC")),
                "on": pa.array([date(2026, 1, 2)], pa.date64()),
                "flag": [True],
            },
        )
        assert [row[n] for n in ("key", "customer", "terminal", "amount")] == [
            "7",
            "c",
            "t",
            "12.1",
        ]
        assert row["time"] == "2026-01-01 05:00:00.000Z"
        assert json.loads(row["other"]) == {"on": "2026-01-02", "flag": True}

    def test_a_key_that_became_a_float_stays_the_same_key(self, tmp_path: Path) -> None:
        rows = self.read(tmp_path, {"id": [17.0, None, 1.5, float("nan"), 2.0**52]})
        assert [row["key"] for row in rows] == ["17", None, "1.5", None, "4503599627370496"]

    def test_a_decimal_key_has_no_zeros_behind_the_point(self, tmp_path: Path) -> None:
        (row,) = self.read(tmp_path, {"id": [Decimal("17.00")], "sum": [Decimal("17.50")]})
        assert (row["key"], row["amount"]) == ("17", "17.50")

    @pytest.mark.parametrize("kind", [pa.float32(), pa.float64()])
    def test_binary_fractions_are_read_as_the_decimals_they_stand_for(
        self, tmp_path: Path, kind: pa.DataType
    ) -> None:
        amounts = [0.1, 100.0, 1234.56, -3.3, 0.0, 1e-7, None, float("nan"), float("inf")]
        rows = self.read(tmp_path, {"sum": pa.array(amounts, kind)})
        texts = [row["amount"] for row in rows]
        assert texts[1] == "100"
        assert [None if t is None else round(Decimal(t), 2) for t in texts] == [
            None if a is None or a != a or a == float("inf") else round(Decimal(str(a)), 2)
            for a in amounts
        ]

    def test_very_large_amounts_are_no_reason_to_stop(self, tmp_path: Path) -> None:
        rows = self.read(tmp_path, {"sum": [1e300, 1.25]})
        assert rows[1]["amount"] == "1.25"

    def test_numbers_are_written_with_the_decimal_mark_of_the_feed(self, tmp_path: Path) -> None:
        rows = self.read(tmp_path, {"sum": [1234.567]}, decimal=",")
        assert rows[0]["amount"] == "1234,567"

    def test_columns_of_types_that_have_no_text_become_json(self, tmp_path: Path) -> None:
        rows = self.read(
            tmp_path,
            {"id": [[1, 2], None], "who": [{"a": 1}, {"a": 2}], "where": [b"\xff", b"t"]},
        )
        assert [row["key"] for row in rows] == ["[1, 2]", None]
        assert rows[0]["customer"] == '{"a": 1}'
        assert [row["terminal"] for row in rows] == ["\\xff", "t"]

    def test_rows_are_numbered_over_row_groups(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({"id": range(10)}), tmp_path / "file", row_group_size=3)
        rows = read(tmp_path / "file", feed("parquet"))
        assert [(row["row_number"], row["key"]) for row in rows] == [
            (i + 1, str(i)) for i in range(10)
        ]

    def test_a_column_that_vanished_is_named(self, tmp_path: Path) -> None:
        (row,) = self.read(tmp_path, {"id": [1]})
        assert "no column who, where, sum, when; it has id" in row["problem"]

    def test_a_cut_file_is_one_record_with_the_reason(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({"id": range(1_000)}), tmp_path / "file")
        (row,) = read_bytes(tmp_path, (tmp_path / "file").read_bytes()[:-10], "parquet")
        assert row["row_number"] == 0
        assert row["problem"].startswith("file cannot be read at all")

    def test_an_empty_file_has_no_records(self, tmp_path: Path) -> None:
        assert read_bytes(tmp_path, b"", "parquet") == []


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_file_that_is_gone_is_a_record_with_the_reason(tmp_path: Path, form: str) -> None:
    (row,) = read(tmp_path / "gone", feed(form))
    assert row["row_number"] == 0
    assert "cannot be read at all" in row["problem"]


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks so small that records meet their edges."""
    monkeypatch.setattr(streams, "_BLOCK_BYTES", 7)
    monkeypatch.setattr(readers, "CSV_BLOCK_BYTES", 256)
    monkeypatch.setattr(readers, "JSON_BLOCK_BYTES", 16)


cells = st.text(st.sampled_from("abc\"', ;\u00e9\u2028\t\x1a"), max_size=6)
csv_lines = st.one_of(
    st.lists(cells, min_size=5, max_size=5).map(lambda row: _written(row)),
    st.lists(cells, max_size=7).map(",".join),
    st.sampled_from(["", "  ", GOOD.strip(), '"', "\x1a\x1a", "\ufffd"]),
)


def _written(row: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(row)
    return text.getvalue()


def _line_numbers(lines: list[str]) -> list[int]:
    return [number for number, line in enumerate(lines, 1) if line.strip()]


@pytest.mark.usefixtures("_small")
@small_blocks
@given(st.lists(csv_lines, max_size=40))
def test_no_line_of_csv_is_lost(tmp_path: Path, lines: list[str]) -> None:
    lines = [line if line.strip("\t ") else "" for line in lines]
    rows = read_text(tmp_path, HEADER + "\n".join(lines))
    assert numbers(rows) == _line_numbers(lines)
    for row in rows:
        line = lines[row["row_number"] - 1]
        if row["problem"]:
            assert row["line"].strip() == line.strip()
        else:
            assert [row[name] for name in COLUMNS] == next(csv.reader([line], strict=False))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
json_lines = st.one_of(
    st.dictionaries(st.sampled_from(["id", "sum", "who", "x"]), json_values).map(json.dumps),
    json_values.map(json.dumps),
    st.sampled_from(["", " ", "{", '{"id": 1}', "\x1a"]),
)


@pytest.mark.usefixtures("_small")
@small_blocks
@given(st.lists(json_lines, max_size=30))
@example(['{"id": 0}', '{"id": null, "id": 3}'])
def test_no_line_of_json_is_lost(tmp_path: Path, lines: list[str]) -> None:
    rows = read_text(tmp_path, "\n".join(lines), form="jsonl")
    assert numbers(rows) == _line_numbers(lines)
    for row in rows:
        line = lines[row["row_number"] - 1]
        if row["problem"]:
            assert row["line"] == line
        else:
            record = json.loads(line, parse_float=str, parse_int=str)
            for name in ("key", "amount", "customer"):
                value = record.get(COLUMNS[name])
                if value is None or isinstance(value, str):
                    assert row[name] == value
                else:
                    assert row[name] is not None


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16", "utf-16-be", "gb18030"])
@settings(small_blocks, max_examples=30)
@given(st.binary(max_size=400))
def test_random_bytes_never_raise(tmp_path: Path, form: str, encoding: str, content: bytes) -> None:
    described = {"encoding": encoding, "delimiter": ";"}
    read_bytes(tmp_path, content, form, **described)
    read_bytes(tmp_path, HEADER.replace(",", ";").encode(encoding) + content, form, **described)
    read_bytes(tmp_path, b"\x1f\x8b" + content, form, **described)


@pytest.mark.usefixtures("_small")
@small_blocks
@given(st.integers(0, 2_000), st.integers(0, 255))
def test_a_byte_that_flips_in_an_archive_loses_no_line_silently(
    tmp_path: Path, position: int, value: int
) -> None:
    text = HEADER + "".join(f"{i},c,t,{i * 7919 % 1000},x\n" for i in range(300))
    content = bytearray(gzip.compress(text.encode(), mtime=0))
    position = 18 + position % (len(content) - 18)
    if content[position] == value:
        return
    content[position] = value
    rows = read_bytes(tmp_path, bytes(content))
    assert any(row["problem"] for row in rows)
