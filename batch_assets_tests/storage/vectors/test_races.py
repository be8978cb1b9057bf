"""Processes that write at once: each day ends as exactly one of them wrote it."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from batch_assets.storage.vectors import VectorStore
from batch_assets_tests.storage.vectors import racers
from batch_assets_tests.storage.vectors.racers import RACERS
from batch_assets_tests.storage.vectors.samples import DOCUMENTS, SIZE, day

ROUNDS = 8
EACH = 150


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """Four processes, spawned, that wait for each other before each task."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        RACERS, spawn, initializer=racers.line_up, initargs=(spawn.Barrier(RACERS),)
    ) as executor:
        yield executor


def race(pool: ProcessPoolExecutor, *calls: tuple[Any, ...]) -> list[Any]:
    """Run one call in each process, all at the same moment."""
    assert len(calls) == RACERS
    return [future.result() for future in [pool.submit(call[0], *call[1:]) for call in calls]]


def settled(store: VectorStore) -> dict[date, tuple[int, str | None]]:
    """Rows and version of each day, after checking that no key is there twice."""
    days = store.days(DOCUMENTS)
    assert store.count(DOCUMENTS) == store.distinct_keys(DOCUMENTS)
    assert store.count(DOCUMENTS) == sum(state.rows for state in days.values())
    return {of: (state.rows, state.version_key) for of, state in days.items()}


def test_an_empty_store_is_created_once_and_no_first_day_is_lost(
    pool: ProcessPoolExecutor, tmp_path: Path
) -> None:
    for turn in range(ROUNDS):
        store = VectorStore(str(tmp_path / str(turn)))
        race(pool, *[(racers.create, store.uri, day(one), EACH) for one in range(RACERS)])
        assert settled(store) == {day(one): (EACH, store.uri) for one in range(RACERS)}


def test_one_writer_of_a_new_day_remains(pool: ProcessPoolExecutor, tmp_path: Path) -> None:
    store = VectorStore(str(tmp_path))
    for turn in range(ROUNDS):
        writers = [f"{turn}-{one}" for one in range(RACERS)]
        race(pool, *[(racers.write, store.uri, [day(turn)], one, EACH) for one in writers])
        rows, version = settled(store)[day(turn)]
        assert rows == EACH
        assert version in writers
    assert len(settled(store)) == ROUNDS


def test_one_writer_of_a_day_that_exists_remains(pool: ProcessPoolExecutor, tmp_path: Path) -> None:
    store = VectorStore(str(tmp_path))
    for turn in range(ROUNDS):
        writers = [f"{turn}-{one}" for one in range(RACERS)]
        versions = race(pool, *[(racers.write, store.uri, [day(0)], one, EACH) for one in writers])
        last = max(range(RACERS), key=lambda at: versions[at][0])
        assert settled(store) == {day(0): (EACH, writers[last])}


def test_writers_of_different_new_days_all_remain(
    pool: ProcessPoolExecutor, tmp_path: Path
) -> None:
    store = VectorStore(str(tmp_path))
    days = [[day(10 * one + at) for at in range(ROUNDS)] for one in range(RACERS)]
    race(pool, *[(racers.write, store.uri, days[one], str(one), EACH) for one in range(RACERS)])
    assert settled(store) == {
        of: (EACH, str(one)) for one in range(RACERS) for of in sorted(days[one])
    }


def test_partly_overlapping_ranges_leave_each_day_whole(
    pool: ProcessPoolExecutor, tmp_path: Path
) -> None:
    store = VectorStore(str(tmp_path))
    ranges = [[day(at) for at in range(one, one + 5)] for one in range(RACERS)]
    race(pool, *[(racers.write, store.uri, ranges[one], str(one), EACH) for one in range(RACERS)])
    for of, (rows, version) in settled(store).items():
        assert rows == EACH
        assert of in ranges[int(version or -1)]
    assert len(store.days(DOCUMENTS)) == RACERS + 4


def test_upkeep_while_days_are_written_loses_and_doubles_nothing(
    pool: ProcessPoolExecutor, tmp_path: Path
) -> None:
    store = VectorStore(str(tmp_path))
    store.ensure(DOCUMENTS)
    days = [day(at) for at in range(4)]
    for turn in range(3):
        writers = [f"{turn}-{one}" for one in range(3)]
        counts, *_ = race(
            pool,
            (racers.tidy, store.uri, 6),
            *[(racers.write, store.uri, days, one, EACH) for one in writers],
        )
        assert all(count % EACH == 0 for count in counts)
        assert {rows for rows, _ in settled(store).values()} == {EACH}
        hits = store.search(DOCUMENTS, [0.0] * SIZE, k=5000)
        found = set(zip(hits["day"].to_pylist(), hits["scoring_key"].to_pylist(), strict=True))
        assert found == {(of, version) for of, (_, version) in settled(store).items()}
        assert hits.num_rows == store.count(DOCUMENTS)
