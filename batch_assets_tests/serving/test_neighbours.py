"""Searches find what comparing everything finds, wherever it lies and whatever is replaced."""

import threading
from collections import Counter
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_assets.serving.neighbours import Neighbours, UnknownKey
from batch_assets.serving.realtime_store import Kept
from batch_assets.serving.stored import StoreUnreadable, ViewGone
from batch_assets.serving.view import View
from batch_assets.storage.vectors import Equals, Filter, OneOf, Range, VectorStoreError
from batch_assets_tests.serving.library import PREDICTIONS, SIZE, day_number, loans_of
from batch_assets_tests.serving.shelves import Row, Shelves

DAYS, ROWS = 6, 50
ALL, SOME, NONE = 50_000_000, 60_000, 1_000
"""Bytes with which all days are in memory, some, and none."""


@pytest.fixture(scope="module")
def shelves(tmp_path_factory: pytest.TempPathFactory) -> Shelves:
    made = Shelves(tmp_path_factory.mktemp("shelves"))
    for n in range(DAYS):
        made.publish(day_number(n), ROWS, "aa")
    return made


@pytest.fixture(scope="module", params=[ALL, SOME, NONE], ids=["all", "some", "none"])
def searched(request: pytest.FixtureRequest, shelves: Shelves) -> tuple[Neighbours, View]:
    home = Shelves(shelves.home, memory=request.param)
    view = home.loaded()
    return home.searched(view), view


def keys(rows: list[Row]) -> list[str]:
    return [row["loan"] for row in rows]


def query(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(SIZE).astype(np.float32)


def test_memory_holds_the_newest_days_that_fit(searched: tuple[Neighbours, View]) -> None:
    neighbours, view = searched
    held = neighbours.memory.held.of(view)
    assert sorted(held) == sorted(view.days)[len(view.days) - len(held) :]
    assert neighbours.memory.bytes <= neighbours.memory._most
    if view.blocks and len(view.blocks) < DAYS:
        assert 0 < len(held) < DAYS
    found = neighbours.search(view, vector=query(0))
    places = {"memory": len(held) > 0, "store": len(held) < DAYS}
    assert found.source == "+".join(name for name, there in places.items() if there)
    assert found.in_memory_days == len(held)


@given(
    seed=st.integers(0, 10_000),
    k=st.integers(1, 400),
    first=st.none() | st.integers(-1, DAYS),
    last=st.none() | st.integers(-1, DAYS),
    reader=st.none() | st.sampled_from(["r0", "r3", "nobody"]),
    shelf=st.none() | st.lists(st.integers(0, 3), max_size=2),
    pages=st.none() | st.tuples(st.floats(0, 50), st.none() | st.floats(0, 50)),
)
def test_any_search_finds_what_comparing_all_finds(
    shelves: Shelves,
    searched: tuple[Neighbours, View],
    seed: int,
    k: int,
    first: int | None,
    last: int | None,
    reader: str | None,
    shelf: list[int] | None,
    pages: tuple[float, float | None] | None,
) -> None:
    neighbours, view = searched
    days = (
        None if first is None else day_number(first),
        None if last is None else day_number(last),
    )
    filters: list[Filter] = []
    conditions: list[Callable[[Row], bool]] = []
    if reader is not None:
        filters.append(Equals("reader", reader))
        conditions.append(lambda row: row["reader"] == reader)
    if shelf is not None:
        filters.append(OneOf("shelf", shelf))
        conditions.append(lambda row: row["shelf"] in shelf)
    if pages is not None:
        low, high = pages
        filters.append(Range("pages", low, high))
        conditions.append(
            lambda row: (
                row["pages"] is not None
                and low <= row["pages"]
                and (high is None or row["pages"] <= high)
            )
        )

    def among(row: Row) -> bool:
        inside = (days[0] is None or row["day"] >= days[0]) and (
            days[1] is None or row["day"] <= days[1]
        )
        return inside and all(condition(row) for condition in conditions)

    found = neighbours.search(view, vector=query(seed), k=k, days=days, filters=filters)
    assert keys(found.rows) == shelves.nearest(query(seed), k, among)
    assert found.exact
    distances = [row["distance"] for row in found.rows]
    true = [float(((shelves.stored[key] - query(seed)) ** 2).sum()) for key in keys(found.rows)]
    np.testing.assert_allclose(distances, true, rtol=1e-5, atol=1e-6)


def test_rows_have_what_predictions_and_vectors_share(
    shelves: Shelves, searched: tuple[Neighbours, View]
) -> None:
    neighbours, view = searched
    known = {row["loan"]: row for rows in shelves.published.values() for row in rows}
    for row in neighbours.search(view, vector=query(1), k=DAYS * ROWS).rows:
        published = {n: v for n, v in known[row["loan"]].items() if n != "scored_at"}
        assert {n: v for n, v in row.items() if n not in ("distance", "source")} == published


def test_a_key_is_not_its_own_neighbour(
    shelves: Shelves, searched: tuple[Neighbours, View]
) -> None:
    neighbours, view = searched
    for n in range(DAYS):
        key = f"{day_number(n):%m%d}-7"
        found = neighbours.search(view, key=key, k=12)
        wanted = shelves.nearest(shelves.stored[key], 13)
        assert wanted[0] == key
        assert keys(found.rows) == wanted[1:]
        everything = neighbours.search(view, key=key, k=1_000)
        assert len(everything.rows) == DAYS * ROWS - 1


def test_what_cannot_be_searched_is_refused(searched: tuple[Neighbours, View]) -> None:
    neighbours, view = searched
    with pytest.raises(UnknownKey, match="0301-999"):
        neighbours.search(view, key="0301-999")
    wrong: list[dict[str, Any]] = [
        {},
        {"vector": query(0), "key": "0301-7"},
        {"vector": [1.0] * (SIZE + 1)},
        {"vector": [np.nan] * SIZE},
        {"vector": ["one"] * SIZE},
        {"vector": query(0), "k": 0},
        {"vector": query(0), "filters": [Equals("colour", "red")]},
        {"vector": query(0), "filters": [Equals("reader", 7)]},
        {"vector": query(0), "filters": [Range("pages", "many")]},
    ]
    for arguments in wrong:
        with pytest.raises(VectorStoreError):
            neighbours.search(view, **arguments)


def test_files_that_are_gone_are_said_to_be(tmp_path: Path) -> None:
    shelves = Shelves(tmp_path, memory=NONE)
    shelves.publish(day_number(0), 20, "aa")
    view = shelves.loaded()
    neighbours = shelves.searched(view)
    for file in (tmp_path / "vectors").rglob("data/*.lance"):
        file.unlink()
    for arguments in ({"vector": query(0)}, {"key": "0301-1"}):
        with pytest.raises((ViewGone, StoreUnreadable), match="loan_vectors cannot be searched"):
            neighbours.search(view, **arguments)


def test_a_replaced_day_is_gone_in_the_view_that_replaces_it(tmp_path: Path) -> None:
    shelves = Shelves(tmp_path)
    for n in range(3):
        shelves.publish(day_number(n), 20, "aa")
    old = shelves.loaded()
    neighbours = shelves.searched(old)
    before = shelves.nearest(query(2), 60)
    was = {key: vector.copy() for key, vector in shelves.stored.items()}
    shelves.publish(day_number(1), 10, "aa2")
    new = shelves.loaded()

    def check(view: View, wanted: list[str]) -> None:
        assert keys(neighbours.search(view, vector=query(2), k=100).rows) == wanted

    after = shelves.nearest(query(2), 50, lambda row: row["model_version"] == "aa2")
    model = neighbours.search(new, vector=query(2), k=100, model="aa2")
    assert keys(model.rows) == after  # from the store, before memory has followed
    assert model.other_model_days == 2
    neighbours.follow(new)
    assert day_number(1) in neighbours.memory.held.of(new)
    model = neighbours.search(new, vector=query(2), k=100, model="aa2")
    assert keys(model.rows) == after
    assert model.source == "memory"
    assert set(neighbours.memory.held.of(old)) == {day_number(0), day_number(2)}
    check(old, before)  # a request that still has the old view
    assert was.keys() == shelves.stored.keys()


def test_days_of_another_model_are_left_out_and_counted(tmp_path: Path) -> None:
    for memory in (ALL, NONE):
        shelves = Shelves(tmp_path / str(memory), memory=memory)
        for n in range(4):
            shelves.publish(day_number(n), 10, "old" if n < 3 else "new")
        view = shelves.loaded()
        neighbours = shelves.searched(view)
        found = neighbours.search(view, key="0302-1", k=50)
        assert (found.model_version, found.other_model_days) == ("old", 1)
        assert {row["model_version"] for row in found.rows} == {"old"}
        assert len(found.rows) == 29
        found = neighbours.search(view, vector=query(0), k=50)
        assert (found.model_version, found.other_model_days) == ("new", 3)
        assert len(found.rows) == 10


def test_a_day_that_grows_or_goes_is_followed(tmp_path: Path) -> None:
    shelves = Shelves(tmp_path)
    for n in range(3):
        shelves.publish(day_number(n), 20, "aa")
    neighbours = shelves.searched(shelves.loaded())
    for day, count in ((0, 100), (1, 0), (2, 30), (3, 5), (0, 2)):
        shelves.publish(day_number(day), count, "aa")
        view = shelves.loaded()
        for _ in range(2):
            found = neighbours.search(view, vector=query(3), k=500, model="aa")
            assert keys(found.rows) == shelves.nearest(query(3), 500)
            neighbours.follow(view)
        assert found.source == "memory"


class Scored:
    """What was scored in real time."""

    def __init__(self, shelves: Shelves) -> None:
        self._shelves = shelves
        self.kept: list[Kept] = []
        self._number = 0

    def score(self, loan: str, day: int, seed: int, **columns: Any) -> None:
        """Have a loan scored; it counts among the published."""
        row = {**loans_of(day_number(day), 1, "aa")[0], "loan": loan, **columns}
        vector = query(seed)
        self._number += 1
        self.kept.append(Kept("", "", row, vector, self._number))
        self._shelves.stored[loan] = vector
        self._shelves.published[date(2000, 1, self._number)] = [row]

    def vectors(self) -> pa.Table:
        table = pa.Table.from_pylist([one.row for one in self.kept], PREDICTIONS.schema)
        vectors = pa.array([one.vector for one in self.kept], pa.list_(pa.float32(), SIZE))
        return table.append_column("vector", vectors)


@pytest.mark.parametrize("memory", [ALL, NONE], ids=["memory", "store"])
def test_rows_scored_in_real_time_are_among_the_neighbours(tmp_path: Path, memory: int) -> None:
    shelves = Shelves(tmp_path, memory=memory)
    for n in range(2):
        shelves.publish(day_number(n), 20, "aa")
    shelves.realtime = scored = Scored(shelves)
    view = shelves.loaded()
    neighbours = shelves.searched(view)
    place = "memory" if memory == ALL else "store"
    assert neighbours.search(view, vector=query(0)).source == place
    for n in range(1, 9):
        scored.score(f"new-{n}", 2 + n % 2, n, reader=f"r{n % 3}", pages=float(n))
        found = neighbours.search(view, vector=query(n + 20), k=45)
        assert keys(found.rows) == shelves.nearest(query(n + 20), 45)
        assert found.source == f"{place}+realtime"
    few = neighbours.search(
        view,
        vector=query(0),
        days=(day_number(2), None),
        filters=[OneOf("reader", ["r1", "r2"]), Range("pages", 3, 7), Range("score", 0.0)],
    )
    wanted = shelves.nearest(
        query(0),
        10,
        lambda row: (
            row["loan"].startswith("new") and row["reader"] != "r0" and 3 <= row["pages"] <= 7
        ),
    )
    assert keys(few.rows) == wanted
    assert {row["source"] for row in few.rows} == {"realtime"}
    own = neighbours.search(view, key="new-3", k=47)
    assert keys(own.rows) == shelves.nearest(query(3), 48)[1:]
    del scored.kept[2]
    del shelves.published[date(2000, 1, 3)]
    scored.score("new-9", 2, 77)
    assert keys(neighbours.search(view, vector=query(0), k=50).rows) == (
        shelves.nearest(query(0), 50)
    )


@pytest.mark.parametrize("memory", [ALL, NONE], ids=["memory", "store"])
def test_the_batch_is_found_in_place_of_real_time(tmp_path: Path, memory: int) -> None:
    shelves = Shelves(tmp_path, memory=memory)
    shelves.publish(day_number(0), 20, "aa")
    scored = Scored(shelves)
    before = shelves.stored["0301-4"]
    scored.score("0301-4", 0, 5)
    shelves.stored["0301-4"] = before
    shelves.published.popitem()
    shelves.realtime = scored
    view = shelves.loaded()
    neighbours = shelves.searched(view)
    found = neighbours.search(view, vector=query(5), k=30)
    assert keys(found.rows) == shelves.nearest(query(5), 30)
    assert {row["source"] for row in found.rows} == {"memory" if memory == ALL else "store"}
    assert keys(neighbours.search(view, key="0301-4", k=5).rows) == shelves.nearest(before, 6)[1:]


def test_no_search_mixes_versions_while_days_are_replaced(tmp_path: Path) -> None:
    """Threads search while days are scored anew; each answer is all of one view's versions."""
    shelves = Shelves(tmp_path)
    scored: dict[tuple[date, str], dict[str, np.ndarray]] = {}

    def publish(day: date, count: int) -> None:
        key = shelves.publish(day, count, "aa")
        loans = [row["loan"] for row in shelves.published[day]]
        scored[day, key] = {loan: shelves.stored[loan] for loan in loans}

    for n in range(4):
        publish(day_number(n), 30)
    shelves.loaded()
    neighbours = Neighbours(shelves)
    done, wrong = threading.Event(), list[str]()
    checked = Counter[str]()

    def check(seed: int) -> None:
        while not done.is_set():
            view = shelves.view
            there: dict[str, np.ndarray] = {}
            for at in view.days.items():
                there |= scored[at]
            found = neighbours.search(view, vector=query(seed), k=500, model="aa")
            checked[found.source] += 1
            far = {key: float(((one - query(seed)) ** 2).sum()) for key, one in there.items()}
            right = len(found.rows) == len(far) and all(
                abs(far[row["loan"]] - row["distance"]) < 1e-4 for row in found.rows
            )
            if not right:
                wrong.append(f"view {view.number}: {len(found.rows)} of {len(far)} rows")
                return

    threads = [threading.Thread(target=check, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(12):
            publish(day_number(turn % 4), 20 + turn)
            shelves.views.refresh()
            shelves.loaded()
    finally:
        done.set()
        for thread in threads:
            thread.join()
        neighbours.stop()
    assert not wrong
    assert sum(checked.values()) > 3
