"""Every prediction is found, whole, wherever it lies."""

import shutil
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from batch_assets.serving.hot import HotRows
from batch_assets.storage.tables import Table
from batch_assets_tests.serving.library import (
    PREDICTIONS,
    VECTORS,
    Library,
    day_number,
    loans_of,
)

IN_MEMORY, SOME_DAYS, ON_DISK = 50_000_000, 20_000, 1_000
SOURCES = {IN_MEMORY: {True}, SOME_DAYS: {True, False}, ON_DISK: {False}}
NOT_THERE = Table("nothing", PREDICTIONS.columns, "A table that is not there.")


@pytest.fixture(params=["vectors", "no vectors"])
def library(request: pytest.FixtureRequest, tmp_path: Path) -> Library:
    made = Library(tmp_path, with_vectors=request.param == "vectors")
    for n in range(4):
        made.publish(day_number(n), 40, "aa", files=n % 2 + 1)
    return made


def test_what_is_in_memory_is_what_was_published(library: Library) -> None:
    lookups, view = library.lookups, library.loaded()
    for rows in library.published.values():
        for row in rows:
            found = lookups.in_memory(view, row["loan"])
            assert found is not None
            assert (found.row, found.source) == (row, "memory")
    assert lookups.in_memory(view, "0301-40") is None
    assert not lookups.maybe(view, "0301-40")
    assert lookups.from_store(view, ["0301-40"]) == {}


def test_what_is_on_disk_is_what_was_published(library: Library) -> None:
    library.memory = ON_DISK
    lookups, view = library.lookups, library.loaded()
    assert not view.blocks
    wanted = {row["loan"]: row for rows in library.published.values() for row in rows}
    assert not any(lookups.in_memory(view, key) for key in wanted)
    assert all(lookups.maybe(view, key) for key in wanted)
    found = lookups.from_store(view, [*wanted, "never lent"])
    assert {key: one.row for key, one in found.items()} == wanted
    assert {one.source for one in found.values()} == {"store"}
    assert {k: f.row for k in wanted for f in lookups.from_store(view, [k]).values()} == wanted


def newest_first(library: Library, column: str, value: object) -> list[dict[str, object]]:
    rows = [r for of_day in library.published.values() for r in of_day if r[column] == value]
    return sorted(rows, key=lambda row: (row["lent_at"], row["loan"]), reverse=True)


@pytest.mark.parametrize("memory", [ON_DISK, SOME_DAYS, IN_MEMORY])
@pytest.mark.parametrize(("column", "value"), [("reader", "r3"), ("shelf", 1)])
def test_predictions_of_an_entity_come_newest_first_page_by_page(
    library: Library, memory: int, column: str, value: str | int
) -> None:
    library.memory = memory
    lookups, view = library.lookups, library.loaded()
    expected = newest_first(library, column, value)
    whole = lookups.of_entity(view, column, value, 1_000)
    assert [found.row for found in whole] == expected
    assert {found.source == "memory" for found in whole} == SOURCES[memory]
    paged: list[dict[str, object]] = []
    while page := lookups.of_entity(view, column, value, 7, _behind(paged)):
        assert len(page) <= 7
        paged += [found.row for found in page]
    assert paged == expected
    moment = expected[10]["lent_at"]
    assert isinstance(moment, datetime)
    earlier = lookups.of_entity(view, column, value, 1_000, moment)
    assert [found.row for found in earlier] == [r for r in expected if r["lent_at"] < moment]  # type: ignore[operator]


def _behind(rows: list[dict[str, object]]) -> tuple[datetime, str] | None:
    if not rows:
        return None
    moment, key = rows[-1]["lent_at"], rows[-1]["loan"]
    assert isinstance(moment, datetime)
    return moment, str(key)


@pytest.mark.parametrize("memory", [ON_DISK, IN_MEMORY])
@pytest.mark.parametrize("key", ["", "\x00", "\ud800", "' OR 1=1 --", "0" * 10_000, 2**70, -1])
def test_keys_that_cannot_be_there_are_not_found(
    library: Library, memory: int, key: str | int
) -> None:
    library.memory = memory
    lookups, view = library.lookups, library.views.renew(0)
    for now in (view, library.loaded()):  # before anything is known of the days, and after
        assert lookups.in_memory(now, key) is None
        assert lookups.from_store(now, [key, "0301-1"]).keys() <= {"0301-1"}
        assert lookups.of_entity(now, "reader", key, 10) == []
        assert lookups.of_entity(now, "shelf", key, 10) == []


def test_before_its_days_are_loaded_a_view_reads_them_from_the_store(library: Library) -> None:
    lookups, view = library.lookups, library.views.renew(0)
    assert not view.blocks
    assert not view.filters
    wanted = {row["loan"]: row for rows in library.published.values() for row in rows}
    assert all(lookups.maybe(view, key) for key in wanted)
    found = lookups.from_store(view, [*wanted, "never lent"])
    assert {key: one.row for key, one in found.items()} == wanted


def test_files_answer_where_vectors_cannot_be_read(library: Library) -> None:
    library.memory = ON_DISK
    lookups, view = library.lookups, library.loaded()
    shutil.rmtree(f"{library.vectors.table_uri(VECTORS)}/data", ignore_errors=True)
    found = lookups.from_store(view, ["0301-1", "0304-39"])
    assert [found[key].row for key in ("0301-1", "0304-39")] == [
        library.published[day_number(0)][1],
        library.published[day_number(3)][39],
    ]
    rows = lookups.of_entity(view, "reader", "r3", 1_000)
    assert [one.row for one in rows] == newest_first(library, "reader", "r3")


def test_rows_scored_at_different_times_have_each_their_own(library: Library) -> None:
    """What the vector table lacks is not taken to be the same for all rows of a day."""
    rows = loans_of(day_number(5), 9, "aa")
    for n, row in enumerate(rows):
        row["scored_at"] += timedelta(seconds=n)
    if library.with_vectors:
        library.publish_vectors(day_number(5), rows, "aa0306")
    library.publish_predictions(day_number(5), rows, "aa0306")
    library.memory = ON_DISK
    found = library.lookups.from_store(library.loaded(), [row["loan"] for row in rows])
    assert [found[row["loan"]].row for row in rows] == rows


def test_hot_rows_are_bounded_and_the_last_ones(library: Library) -> None:
    view = library.loaded()
    rows = [row for of_day in library.published.values() for row in of_day]
    hot = HotRows(20_000)
    for row in rows:
        for _ in range(2):
            hot.put(view.days[row["day"]], row["loan"], row)
        assert hot.get(view, rows[0]["loan"]) == rows[0]  # asked for again and again
        assert hot.bytes <= 20_000
    assert 10 < len(hot) < 40
    assert [row for row in rows if hot.get(view, row["loan"])] == [rows[0], *rows[1 - len(hot) :]]
    library.publish(day_number(3), 40, "bb")
    hot.keep_only(library.loaded())
    assert len(hot) == 1
    hot.keep_only(replace(view, predictions=library.warehouse.snapshot(NOT_THERE)))
    assert (len(hot), hot.bytes) == (0, 0)
