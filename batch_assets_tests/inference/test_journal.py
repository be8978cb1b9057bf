"""What is done of a range of rows is known after a kill at any moment."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_assets.inference.journal import (
    Chunk,
    Journal,
    Mark,
    read_chunks,
    settle,
    stats_of_attempts,
    to_do,
)
from batch_assets.inference.stats import EngineStats


def chunk(journal: Journal, start: int, stop: int, name: str = "") -> Chunk:
    """A chunk with a file, which took one second."""
    name = name or f"rows-{start}"
    (journal.folder / name).write_text("rows")
    stats = EngineStats(device="cpu", rows=stop - start, elapsed_seconds=1.0)
    return Chunk(start, stop, journal.attempt.number, (name,), {"what": name}, stats)


def done(journal: Journal) -> list[tuple[int, int]]:
    return [(c.start, c.stop) for c in journal.chunks]


def test_the_next_attempt_finds_the_chunks_that_were_recorded(tmp_path: Path) -> None:
    first = Journal(tmp_path, "same")
    first.record(chunk(first, 0, 10))
    first.record(chunk(first, 10, 17))
    second = Journal(tmp_path, "same")
    assert done(second) == [(0, 10), (10, 17)]
    assert second.chunks[0].made == {"what": "rows-0"}
    assert second.attempt.number == 2
    assert second.attempt.lost.rows == 0


def test_what_a_killed_attempt_had_computed_of_its_chunk_counts_as_lost(tmp_path: Path) -> None:
    first = Journal(tmp_path, "same")
    first.record(chunk(first, 0, 10))
    mark = Mark(tmp_path, 10)
    mark.advance(EngineStats(rows=4, elapsed_seconds=0.5))
    mark.advance(EngineStats(rows=6, elapsed_seconds=0.75))
    (tmp_path / "rows-10").write_text("torn")
    second = Journal(tmp_path, "same")
    assert second.attempt.lost.rows == 6
    assert not (tmp_path / "rows-10").exists()
    second.record(chunk(second, 10, 20))
    (one, before), (two, after) = stats_of_attempts(tmp_path)
    assert (one.number, before.rows, before.elapsed_seconds) == (1, 16, 1.75)
    assert (two.number, after.rows, two.lost.rows) == (2, 10, 6)
    assert before.rows + after.rows - two.lost.rows == 20


def test_a_kill_between_record_and_mark_loses_nothing(tmp_path: Path) -> None:
    first = Journal(tmp_path, "same")
    first.record(chunk(first, 0, 10))
    Mark(tmp_path, 0).advance(EngineStats(rows=10))
    second = Journal(tmp_path, "same")
    assert done(second) == [(0, 10)]
    assert second.attempt.lost.rows == 0


def test_chunks_of_other_inputs_are_removed_and_count_as_lost(tmp_path: Path) -> None:
    first = Journal(tmp_path, "before")
    first.record(chunk(first, 0, 10))
    second = Journal(tmp_path, "after")
    assert done(second) == []
    assert second.attempt.lost.rows == 10
    assert list(read_chunks(tmp_path)) == []
    assert not (tmp_path / "rows-0").exists()


@pytest.mark.parametrize("damage", ["file gone", "unusable", "record torn", "record of a stranger"])
def test_a_chunk_that_cannot_be_used_is_done_again(tmp_path: Path, damage: str) -> None:
    first = Journal(tmp_path, "same")
    first.record(chunk(first, 0, 10))
    first.record(chunk(first, 10, 20))
    record = tmp_path / "chunk-0.json"
    if damage == "file gone":
        (tmp_path / "rows-0").unlink()
    elif damage == "record torn":
        record.write_bytes(record.read_bytes()[:20])
    elif damage == "record of a stranger":
        record.write_text('{"start": 0}')
    usable = damage != "unusable"
    second = Journal(tmp_path, "same", usable=lambda c: usable or c.start == 10)
    assert done(second) == [(10, 20)]
    assert to_do(20, [range(c.start, c.stop) for c in second.chunks], 100) == [range(0, 10)]


def test_attempts_that_were_accounted_for_say_so(tmp_path: Path) -> None:
    Journal(tmp_path, "same")
    settle(tmp_path)
    Journal(tmp_path, "same")
    assert [attempt.settled for attempt, _ in stats_of_attempts(tmp_path)] == [True, False]


@given(
    rows=st.integers(0, 300),
    cuts=st.lists(st.integers(0, 300), max_size=12),
    kept=st.lists(st.booleans(), min_size=13, max_size=13),
    chunk_rows=st.integers(1, 50),
)
def test_what_is_done_and_what_is_left_are_all_rows_once(
    rows: int, cuts: list[int], kept: list[bool], chunk_rows: int
) -> None:
    ends = sorted({0, rows, *(min(cut, rows) for cut in cuts)})
    parts = [range(a, b) for a, b in pairwise(ends)]
    finished = [part for part, keep in zip(parts, kept, strict=False) if keep]
    left = to_do(rows, finished, chunk_rows)
    assert all(0 < len(part) <= chunk_rows for part in left)
    assert left == sorted(left, key=lambda part: part.start)
    assert sorted(n for part in [*finished, *left] for n in part) == list(range(rows))
