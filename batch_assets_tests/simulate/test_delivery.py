import datetime
import gzip
import pathlib
from collections import Counter, defaultdict

import pytest

from batch_assets.simulate import simulate
from batch_assets_tests.simulate.received import Delivered, Row


def in_time(row: Row) -> bool:
    return row.day == row.arrived or not row.valid_time


def test_missing_and_senseless_values_are_there_as_counted(delivered: Delivered) -> None:
    summary, rows = delivered.summary, delivered.rows
    rows = [row for row in rows if row.key and not row.file.endswith("-copy.jsonl")]
    once = {row.key: row for row in rows}.values()
    seen = {
        "missing_customer": sum(row.customer is None for row in once),
        "missing_terminal": sum(row.terminal is None for row in once),
        "missing_amount": sum(row.amount_text is None for row in once),
        "unparsable_amount": sum(bool(row.amount_text) and row.amount is None for row in once),
        "negative_amount": sum(row.amount is not None and row.amount < 0 for row in once),
        "invalid_utf8": sum("\ufffd" in (row.customer or "") for row in once),
        "unknown_currency": sum(row.currency == "XTS" for row in once),
        "future_date": sum(row.feed == "asia_wallet" and not row.valid_time for row in once),
        "no_such_local_time": sum(
            row.feed == "europe_cards" and not row.valid_time for row in once
        ),
    }
    undelivered = summary.undelivered  # have no other flaw: a row has at most one
    assert undelivered < 40
    assert seen == {name: summary.planted[name] for name in seen}
    assert all(seen.values())


def test_repeated_rows_and_conflicts_are_there_as_counted(delivered: Delivered) -> None:
    summary, rows = delivered.summary, delivered.rows
    groups = defaultdict(list)
    for row in rows:
        if row.key and not row.file.endswith("-copy.jsonl"):
            groups[row.key].append(row)
    seen: Counter[str] = Counter()
    for group in groups.values():
        assert len(group) <= 2
        if len(group) == 2:
            kind = "conflict" if group[0].amount != group[1].amount else "repeated"
            assert {row.customer for row in group} == {group[0].customer}
            same_day = group[0].arrived == group[1].arrived
            seen[f"{kind}_{'in_file' if same_day else 'next_day'}"] += 1
    # Rows of the cut file are seen a day later, with those that came in the file of that day.
    planted = {name: summary.planted[name] for name in seen}
    assert sum(planted.values()) == sum(seen.values())
    assert all(abs(planted[name] - seen[name]) <= 2 for name in seen)
    assert len(seen) == 4


def test_rows_arrive_on_their_day_or_at_most_six_days_late(delivered: Delivered) -> None:
    summary, rows = delivered.summary, delivered.rows
    again = ("neu.csv.gz", "-copy.jsonl")
    late = [r for r in rows if not in_time(r) and not r.file.endswith(again)]
    delays = Counter((row.arrived - row.day).days for row in late if row.day)
    assert set(delays) == {1, 2, 3, 4, 5, 6}
    planted = summary.planted
    expected = planted["late"] + planted["repeated_next_day"] + planted["conflict_next_day"]
    resent = [row for row in rows if row.file.endswith("neu.csv.gz") and row.day]
    late_and_cut = sum((row.arrived - row.day).days > 1 for row in resent if row.day)
    assert sum(delays.values()) == expected - late_and_cut


def test_a_file_is_cut_and_comes_whole_a_day_later(delivered: Delivered) -> None:
    landing = delivered.home / "landing"
    (cut,) = landing.glob("europe_cards/2026-03-11/*nachtrag.csv.gz")
    (whole,) = landing.glob("europe_cards/2026-03-12/*nachtrag-neu.csv.gz")
    with pytest.raises(EOFError):
        gzip.decompress(cut.read_bytes())
    assert whole.read_bytes().startswith(cut.read_bytes())
    lines = gzip.decompress(whole.read_bytes()).decode().splitlines()
    assert len(lines) - 1 == delivered.summary.planted["resent_after_truncation"] > 0


def test_a_file_comes_twice_under_two_names(delivered: Delivered) -> None:
    one, two = sorted((delivered.home / "landing").glob("america_pos/2026-03-10/*.jsonl"))
    assert one.read_bytes() == two.read_bytes()
    rows = len(one.read_text().splitlines())
    assert rows == delivered.summary.planted["copied_file_rows"]


def test_nearly_all_rows_are_clean_and_about_one_in_a_hundred_is_a_fraud(
    delivered: Delivered,
) -> None:
    summary, rows = delivered.summary, delivered.rows
    keys: Counter[str | None] = Counter(row.key for row in rows)
    complete = sum(
        keys[r.key] == 1 and r.valid_time and None not in (r.customer, r.terminal, r.amount)
        for r in rows
    )
    assert complete / summary.rows > 0.97
    assert 0.004 < summary.frauds / summary.transactions < 0.02


def test_ids_of_feeds_never_collide(delivered: Delivered) -> None:
    feeds_of = defaultdict(set)
    for row in delivered.rows:
        for name in (row.key, row.customer, row.terminal):
            feeds_of[name].add(row.feed)
    del feeds_of[None]
    assert all(len(feeds) == 1 for feeds in feeds_of.values())


def test_american_offsets_change_on_the_spring_day(delivered: Delivered) -> None:
    folder = delivered.home / "landing/america_pos/2026-03-08"
    text = "".join(path.read_text() for path in folder.iterdir())
    assert '-05:00"' in text
    assert '-04:00"' in text
    assert 'Z"' in text


def test_autumn_has_local_times_that_exist_twice(tmp_path: pathlib.Path) -> None:
    start = datetime.date(2026, 10, 25)
    summary = simulate(tmp_path, days=1, start=start, customers=9000, terminals=900)
    assert summary.planted["ambiguous_local_time"] > 0
