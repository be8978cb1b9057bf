"""Views follow what is published, day by day, and never mix two versions of a day."""

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from batch_assets.errors import BatchAssetsError
from batch_assets.serving import versions, views
from batch_assets.serving.budget import BLOCKS
from batch_assets.serving.stored import StoreUnreadable, ViewGone
from batch_assets.serving.view import View
from batch_assets_tests.serving.library import (
    LOANS,
    PREDICTIONS,
    VECTORS,
    Library,
    day_number,
    loans_of,
)

WAIT = 60.0  # for what comes at once on an idle machine
ONE_DAY = 15_000  # bytes of memory in all, of which a day of 40 loans fits into its part


@pytest.fixture
def library(tmp_path: Path) -> Library:
    made = Library(tmp_path)
    for n in range(4):
        made.publish(day_number(n), 40, "aa")
    return made


def files_of(library: Library, n: int) -> list[Path]:
    snapshot = library.warehouse.snapshot(PREDICTIONS)
    return [Path(snapshot.root, file.path) for file in snapshot.by_day[day_number(n)]]


def version_of(library: Library, view: View, n: int, source: str) -> str:
    """The one version of which all loans of a day are."""
    day = day_number(n)
    keys = [row["loan"] for row in loans_of(day, 40, "")]
    found = {key: one for key in keys if (one := library.lookups.in_memory(view, key))}
    found |= library.lookups.from_store(view, [key for key in keys if key not in found])
    (version,) = {one.row["model_version"] for one in found.values()}
    assert [found[key].row for key in keys] == loans_of(day, 40, version)
    assert {one.source for one in found.values()} == {source}
    return str(version)


def when(library: Library, true: Callable[[View], bool]) -> threading.Event:
    """Set as soon as there is such a view."""
    event = threading.Event()
    library.views.listen(lambda old, new: event.set() if true(new) else None)
    if true(library.view):
        event.set()
    return event


def test_a_home_without_tables_is_empty_until_a_first_day_is_published(tmp_path: Path) -> None:
    library = Library(tmp_path)
    lookups = library.lookups
    library.views.start()
    try:
        assert library.view.number == 1
        assert not library.view.days
        assert library.view.confirmed_at is None
        assert not lookups.maybe(library.view, "0301-1")
        assert lookups.from_store(library.view, ["0301-1"]) == {}
        assert lookups.of_entity(library.view, "reader", "r1", 10) == []
        alive = when(library, lambda view: len(view.blocks) == 1 and view.vectors is not None)
        library.publish(day_number(0), 40, "aa")
        assert alive.wait(WAIT)
        assert version_of(library, library.view, 0, "memory") == "aa"
        assert library.view.confirmed_at is not None
    finally:
        library.views.stop()


def test_exactly_the_replaced_day_is_forgotten(library: Library) -> None:
    before = library.loaded()
    library.publish(day_number(2), 40, "bb")
    after = library.loaded()
    assert [version_of(library, after, n, "memory") for n in range(4)] == ["aa", "aa", "bb", "aa"]
    same = {day for day, block in after.blocks.items() if before.blocks[day] is block}
    assert same == {day_number(n) for n in (0, 1, 3)}
    assert [version_of(library, before, n, "memory") for n in range(4)] == ["aa"] * 4


def test_a_hot_row_is_forgotten_with_its_day(library: Library) -> None:
    library.memory = 0
    lookups, before = library.lookups, library.loaded()
    lookups.hot._most = 10_000_000
    assert version_of(library, before, 0, "store") == "aa"
    assert version_of(library, before, 1, "store") == "aa"
    assert version_of(library, before, 0, "memory") == "aa"
    library.publish(day_number(0), 40, "bb")
    after = library.loaded()
    assert version_of(library, after, 0, "store") == "bb"
    assert version_of(library, after, 0, "memory") == "bb"
    assert version_of(library, after, 1, "memory") == "aa"
    assert version_of(library, before, 0, "store") == "aa"


def test_an_old_view_that_lost_its_files_says_so_and_is_asked_anew(library: Library) -> None:
    library.memory = 0
    library.with_vectors = False
    old = library.loaded()
    gone = files_of(library, 1)
    library.publish(day_number(1), 40, "bb")
    for path in gone:
        path.unlink()
    with pytest.raises(ViewGone):
        library.lookups.from_store(replace(old, vectors=None), ["0302-1"])
    asked: list[int] = []

    def ask(view: View) -> str:
        asked.append(view.number)
        if len(asked) == 1:
            raise ViewGone("as above")
        return version_of(library, view, 1, "store")

    assert library.views.answer(ask) == "bb"
    assert asked == [old.number, library.view.number]
    assert asked[0] < asked[1]


def test_files_that_the_newest_view_needs_are_missed_with_a_clear_error(tmp_path: Path) -> None:
    library = Library(tmp_path, memory=0, with_vectors=False)
    for n in range(2):
        library.publish(day_number(n), 40, "aa")
    library.loaded()
    for path in files_of(library, 0):
        path.unlink()
    lookups = library.lookups
    with pytest.raises(StoreUnreadable, match="day=2026-03-01"):
        library.views.answer(lambda view: lookups.from_store(view, ["0301-1"]))
    assert version_of(library, library.view, 1, "store") == "aa"


@pytest.mark.parametrize("memory", [0, 50_000_000])
def test_a_damaged_file_is_a_clear_error_of_its_day_alone(tmp_path: Path, memory: int) -> None:
    library = Library(tmp_path, memory=memory, with_vectors=False)
    for n in range(3):
        library.publish(day_number(n), 40, "aa")
    (path,) = files_of(library, 1)
    path.write_bytes(path.read_bytes()[:100] + b"x" * 2_000)
    view, lookups = library.loaded(), library.lookups
    source = "memory" if memory else "store"
    assert {version_of(library, view, n, source) for n in (0, 2)} == {"aa"}
    assert lookups.maybe(view, "0302-1")
    with pytest.raises(StoreUnreadable, match=r"day=2026-03-02.*batch-assets run"):
        lookups.from_store(view, ["0302-1"])
    with pytest.raises(StoreUnreadable, match="day=2026-03-02"):
        lookups.of_entity(view, "reader", "r1", 1_000)
    assert lookups.counts["unreadable"] == 2
    assert set(view.problems) == ({day_number(1)} if memory else set())
    library.publish(day_number(1), 40, "bb")
    assert version_of(library, library.loaded(), 1, source) == "bb"
    assert not library.view.problems


def test_a_log_that_cannot_be_read_leaves_the_old_view(library: Library) -> None:
    lookups, view = library.lookups, library.loaded()
    log = library.warehouse.snapshot(PREDICTIONS)
    Path(log.root, "_delta_log", f"{log.version + 1:020d}.json").write_text("no json")
    library.views.start()
    try:
        assert library.views.failure is not None
        assert library.views.errors >= 1
        assert library.view is view
        assert version_of(library, view, 3, "memory") == "aa"
        with pytest.raises(BatchAssetsError, match="cannot be looked at"):
            library.views.refresh()
    finally:
        library.views.stop()
    assert lookups.in_memory(view, "0301-1")


def test_damaged_vectors_leave_predictions_as_they_are(library: Library) -> None:
    for path in Path(library.vectors.table_uri(VECTORS), "_versions").iterdir():
        path.write_bytes(b"no manifest")
    library.memory = 0
    view = library.loaded()
    assert view.vectors is None
    assert version_of(library, view, 2, "store") == "aa"


def test_the_newest_days_are_in_memory_as_far_as_the_bound_allows(tmp_path: Path) -> None:
    library = Library(tmp_path)
    for n in range(6):
        library.publish(day_number(n), 1_000, "aa")
    whole = library.loaded().bytes
    library = Library(tmp_path, memory=int(whole * 0.55 / BLOCKS))
    view = library.loaded()
    assert sorted(view.blocks) == [day_number(n) for n in (3, 4, 5)]
    assert sorted(view.filters) == [day_number(n) for n in (0, 1, 2)]
    assert view.bytes <= library.budget.blocks
    assert library.lookups.in_memory(view, "0304-999")
    assert library.lookups.from_store(view, ["0303-999"])
    assert not library.lookups.maybe(view, "0303-1000")
    library.publish(day_number(6), 1_000, "aa")
    view = library.loaded()
    assert sorted(view.blocks) == [day_number(n) for n in (4, 5, 6)]
    assert view.bytes <= library.budget.blocks


def test_a_restart_reads_no_day_that_has_a_filter(tmp_path: Path) -> None:
    first = Library(tmp_path, memory=2_000)
    for n in range(2):
        first.publish(day_number(n), 40, "aa")
    assert len(first.loaded().filters) == 2
    for path in files_of(first, 0):
        path.unlink()
    again = Library(tmp_path, memory=2_000)
    view = again.loaded()
    assert not view.problems
    assert again.lookups.maybe(view, "0301-1")
    assert not again.lookups.maybe(view, "0301-40")
    again.publish(day_number(0), 40, "bb")
    again.loaded()
    kept = {path.stem for path in (again.folder / "loans").iterdir()}
    assert kept == {"bb0301", "aa0302"}


def test_vectors_of_a_scoring_that_is_not_decided_yet_do_not_hide_the_old_ones(
    library: Library,
) -> None:
    old = library.loaded()
    library.views.start()
    try:
        day, rows = day_number(1), loans_of(day_number(1), 40, "bb")
        library.publish_vectors(day, rows, "bb0302")
        between = library.views.renew(0)
        assert between.vectors is not None
        assert all(between.vectors.holds(*at) for at in between.days.items())
        assert between.days == old.days
        decided = when(library, lambda view: view.days[day] == "bb0302")
        library.publish_predictions(day, rows, "bb0302")
        assert decided.wait(WAIT)
        assert library.view.vectors is not None
        assert all(library.view.vectors.holds(*at) for at in library.view.days.items())
    finally:
        library.views.stop()


def test_days_that_belong_together_win_when_a_run_was_killed_between_the_two_stores(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "PATIENCE_SECONDS", 0.0)
    library.loaded()
    library.publish_vectors(day_number(1), loans_of(day_number(1), 40, "bb"), "bb0302")
    for n in (4, 5):
        library.publish(day_number(n), 40, "aa")
    view = library.loaded()
    assert view.vectors is not None
    lacking = {day for day, key in view.days.items() if not view.vectors.holds(day, key)}
    assert lacking == {day_number(1)}
    library.memory = 0
    fresh = Library(library.home, memory=0)
    assert version_of(fresh, fresh.loaded(), 1, "store") == "aa"


def test_a_model_that_goes_live_is_in_the_next_view(library: Library) -> None:
    library.workload = replace(LOANS, model="lateness")
    assert library.loaded().model_version is None
    card = {"name": "lateness", "kind": "any", "features": ["pages"]}
    version = library.models.save({"weight": np.ones(1, np.float32)}, card)
    library.models.promote(version, "lateness")
    library.views.start()
    try:
        assert when(library, lambda view: view.model_version == version).wait(WAIT)
    finally:
        library.views.stop()


@pytest.mark.parametrize("memory", [0, ONE_DAY, 50_000_000])
def test_no_answer_is_mixed_or_missing_while_days_are_replaced(
    library: Library, memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Days are published again and again, and files that no table names are removed at once."""
    monkeypatch.setattr(views, "POLL_SECONDS", 0.01)
    library.memory = memory
    lookups = library.lookups
    library.views.start()
    done = threading.Event()

    def check(view: View, n: int) -> None:
        day = day_number(n)
        keys = [row["loan"] for row in loans_of(day, 40, "")]
        found = {key: one for key in keys if (one := lookups.in_memory(view, key))}
        found |= lookups.from_store(view, [key for key in keys if key not in found])
        listed = lookups.of_entity(view, "reader", "r3", 1_000)
        rows = [one.row for one in found.values()]
        rows += [one.row for one in listed if one.row["day"] == day]
        (version,) = {row["model_version"] for row in rows}
        expected = loans_of(day, 40, version)
        assert [found[key].row for key in keys] == expected
        of_reader = [row for row in expected if row["reader"] == "r3"]
        assert len(rows) == 40 + len(of_reader)
        assert view.days[day].startswith(version)
        if view.vectors and view.vectors.holds(day, view.days[day]):
            vectors = view.vectors.rows_of([day], ["model_version"], None)
            assert vectors["model_version"].to_pylist() == [version] * 40

    answers, answered = [0, 0, 0], threading.Condition()

    def read(reader: int) -> None:
        chosen = random.Random(reader)
        try:
            while not done.is_set():
                library.views.answer(partial(check, n=chosen.randrange(4)))
                with answered:
                    answers[reader] += 1
                    answered.notify_all()
        finally:
            done.set()

    def publish() -> None:
        for n in range(24):
            gone = files_of(library, n % 4)
            library.publish(day_number(n % 4), 40, f"v{n}")
            with answered:  # files stay as long as an answer that has begun with them
                before = [*answers]
                answered.wait_for(
                    lambda before=before: (
                        done.is_set()  # type: ignore[misc]
                        or all(now > then for now, then in zip(answers, before, strict=True))
                    ),
                    WAIT,
                )
            for path in gone:
                path.unlink()

    try:
        with ThreadPoolExecutor(4) as pool:
            readers = [pool.submit(read, reader) for reader in range(3)]
            try:
                publish()
            finally:
                done.set()
            for reader in readers:
                reader.result()
        assert min(answers) >= 24
        final = library.loaded()
        assert {final.days[day_number(n)] for n in range(4)} == {
            f"v{20 + n}{day_number(n):%m%d}" for n in range(4)
        }
    finally:
        library.views.stop()
