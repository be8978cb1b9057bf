"""A run that is killed anywhere costs at most a chunk, and leaves no trace in the result."""

import multiprocessing
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from batch_assets.fraud import tables
from batch_assets.fraud.embeddings import EMBEDDINGS
from batch_assets.fraud.keys import PREDICTIONS, STEPS
from batch_assets.fraud.ledger import entries
from batch_assets.fraud.pipeline import KINDS, Pipeline
from batch_assets.fraud.queries import status
from batch_assets.fraud.run import open_pipeline
from batch_assets.fraud.scoring import forget_unfinished
from batch_assets.protocol import Moment
from batch_assets_tests.fraud.killed import CHUNK_ROWS, end, start
from batch_assets_tests.fraud.zone import (
    START,
    Zone,
    contents,
    days,
    put_any_model_live,
)

ROWS = 3 * CHUNK_ROWS + 5
DAYS = days(2)
CHUNKS = 4
EACH_CHUNK = (Moment.CHUNK_BEGUN, Moment.FILES_WRITTEN, Moment.CHUNK_RECORDED)
KILLS = [(moment, 1) for moment in Moment]
KILLS += [(moment, CHUNKS + 2) for moment in EACH_CHUNK]


def many_rows(day: date) -> list[tuple[object, ...]]:
    """Rows of one day, ten minutes apart."""
    midnight = datetime(day.year, day.month, day.day)
    return [
        (f"{day}-{n}", f"c{n % 5}", f"s{n % 3}", f"{n}.25", midnight + timedelta(minutes=10 * n))
        for n in range(ROWS)
    ]


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with features of two days and a live model."""
    home = tmp_path_factory.mktemp("features")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BATCH_ASSETS_HOME", str(home))
        zone = Zone(home).describe()
        for day in DAYS:
            zone.deliver(day, many_rows(day))
        pipeline = zone.pipeline()
        put_any_model_live(pipeline)
        for kind in KINDS:
            pipeline.ingest(kind, DAYS)
        for step in list(STEPS.values())[: list(STEPS.values()).index(PREDICTIONS)]:
            pipeline.build(step, DAYS)
    return home


@pytest.fixture
def copy(features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Pipeline]:
    """Makes copies of that home, the newest one in force."""

    def make() -> Pipeline:
        home = tmp_path / f"home-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(features, home)
        monkeypatch.setenv("BATCH_ASSETS_HOME", str(home))
        return open_pipeline()

    return make


@pytest.fixture(scope="module")
def expected(
    features: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[dict[str, Any]]]:
    """What an undisturbed process makes of it."""
    home = tmp_path_factory.mktemp("expected") / "home"
    shutil.copytree(features, home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BATCH_ASSETS_HOME", str(home))
        assert end(start(home, DAYS)) == 0
        return contents(open_pipeline())


def ledger(pipeline: Pipeline) -> list[dict[str, Any]]:
    return entries(pipeline.warehouse, DAYS[0], DAYS[-1])


def assert_every_row_is_accounted_for(pipeline: Pipeline, most_twice: int) -> None:
    """Of each day: rows computed, less those computed again, are the day's rows."""
    rows = ledger(pipeline)
    for day in DAYS:
        of_day = [row for row in rows if row["day"] == day]
        assert [row["attempt"] for row in of_day] == list(range(1, len(of_day) + 1))
        assert [row["outcome"] for row in of_day][-1] == "done"
        assert {row["outcome"] for row in of_day[:-1]} <= {"killed"}
        assert sum(row["rows"] - row["rows_twice"] for row in of_day) == ROWS
        assert sum(row["rows_twice"] for row in of_day) <= most_twice


def assert_nothing_is_left(pipeline: Pipeline) -> None:
    assert not list((pipeline.settings.home / ".chunks").glob("*[!k]/*"))


def test_the_moments_come_in_the_order_in_which_the_protocol_lists_them(
    copy: Callable[[], Pipeline],
) -> None:
    pipeline = copy()
    heard, tell = multiprocessing.Pipe(duplex=False)
    for moment in Moment:
        process = start(pipeline.settings.home, DAYS[:1], hold_at=moment, tell=tell)
        assert end(process) == 0
        shutil.rmtree(pipeline.settings.home / "warehouse" / "fraud_predictions")
    order = [heard.recv() for _ in iter(lambda: heard.poll(), False)]
    assert list(dict.fromkeys(order)) == list(Moment)
    assert order.count(Moment.CHUNK_RECORDED) == CHUNKS


@pytest.mark.parametrize(("moment", "times"), KILLS)
def test_after_a_kill_at_any_moment_the_next_run_ends_with_the_same_tables(
    copy: Callable[[], Pipeline],
    expected: dict[str, list[dict[str, Any]]],
    moment: Moment,
    times: int,
) -> None:
    pipeline = copy()
    home = pipeline.settings.home
    assert end(start(home, DAYS, kill_at=moment, times=times)) == -9
    assert end(start(home, DAYS)) == 0
    assert contents(pipeline) == expected
    assert_every_row_is_accounted_for(pipeline, most_twice=CHUNK_ROWS)
    assert_nothing_is_left(pipeline)


def test_what_a_process_found_lost_is_known_though_it_died_before_it_computed_a_row(
    copy: Callable[[], Pipeline], expected: dict[str, list[dict[str, Any]]]
) -> None:
    pipeline = copy()
    home = pipeline.settings.home
    for moment in (Moment.FILES_WRITTEN, Moment.CHUNK_BEGUN, Moment.ATTEMPT_NOTED):
        assert end(start(home, DAYS, kill_at=moment)) == -9
    assert end(start(home, DAYS)) == 0
    assert contents(pipeline) == expected
    assert_every_row_is_accounted_for(pipeline, most_twice=CHUNK_ROWS)


def test_after_kills_at_any_time_the_next_run_ends_with_the_same_tables(
    copy: Callable[[], Pipeline], expected: dict[str, list[dict[str, Any]]]
) -> None:
    chance = random.Random(7)
    pipeline = copy()
    kills = 0
    for _ in range(30):
        process = start(pipeline.settings.home, DAYS)
        process.join(chance.uniform(0.05, 0.6))
        if process.exitcode is None:
            process.kill()
            process.join()
            kills += 1
        elif process.exitcode == 0 and kills:
            break
    assert end(start(pipeline.settings.home, DAYS)) == 0
    assert kills
    assert contents(pipeline) == expected
    assert_every_row_is_accounted_for(pipeline, most_twice=kills * CHUNK_ROWS)
    assert_nothing_is_left(pipeline)


def test_a_process_that_is_asked_to_end_keeps_all_that_it_computed(
    copy: Callable[[], Pipeline], expected: dict[str, list[dict[str, Any]]]
) -> None:
    pipeline = copy()
    home = pipeline.settings.home
    heard, tell = multiprocessing.Pipe(duplex=False)
    release, go_on = multiprocessing.Pipe(duplex=False)
    process = start(home, DAYS, hold_at=Moment.FILES_WRITTEN, tell=tell, release=release)
    assert heard.recv() is Moment.FILES_WRITTEN
    process.terminate()
    go_on.send("")
    assert end(process) == 128 + 15
    assert [(row["outcome"], row["rows"]) for row in ledger(pipeline)] == [
        ("interrupted", CHUNK_ROWS)
    ]
    assert end(start(home, DAYS)) == 0
    assert contents(pipeline) == expected
    first, second = (row for row in ledger(pipeline) if row["day"] == START)
    assert (second["outcome"], second["rows"]) == ("done", ROWS - CHUNK_ROWS)
    assert first["rows_twice"] == second["rows_twice"] == 0


def test_two_devices_share_the_chunks_and_the_tables_are_the_same(
    copy: Callable[[], Pipeline],
    expected: dict[str, list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from batch_assets.fraud import chunks

    monkeypatch.setattr(chunks, "ROWS", CHUNK_ROWS)
    pipeline = replace(copy(), devices=("cpu", "cpu"))
    pipeline.build(PREDICTIONS, DAYS)
    assert contents(pipeline) == expected
    assert_every_row_is_accounted_for(pipeline, most_twice=0)
    assert_nothing_is_left(pipeline)
    assert {row["devices"] for row in ledger(pipeline)} == {1}


def test_of_two_processes_one_scores_a_day_and_the_other_says_that_it_waits(
    copy: Callable[[], Pipeline], expected: dict[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    pipeline = copy()
    home, log = pipeline.settings.home, tmp_path / "log"
    heard, tell = multiprocessing.Pipe(duplex=False)
    release, go_on = multiprocessing.Pipe(duplex=False)
    first = start(
        home,
        DAYS[:1],
        hold_at=Moment.VECTORS_PUBLISHED,
        tell=tell,
        release=release,
        run_id="first",
    )
    heard.recv()
    second = start(home, DAYS, run_id="second", log=log)
    while not (log.exists() and "being scored by another run" in log.read_text()):
        assert second.is_alive()
        time.sleep(0.01)
    go_on.send("")
    assert end(first) == end(second) == 0
    assert f"{START} is being scored by another run: waiting for it" in log.read_text()
    assert [(row["day"], row["run_id"]) for row in ledger(pipeline)] == [
        (DAYS[0], "first"),
        (DAYS[1], "second"),
    ]
    assert contents(pipeline) == expected


def test_an_empty_day_is_done_and_readers_see_that_it_is_empty(
    copy: Callable[[], Pipeline],
) -> None:
    pipeline = copy()
    pipeline.update(days(3))
    predictions = pipeline.warehouse.snapshot(tables.FRAUD_PREDICTIONS)
    assert predictions.rows([days(3)[2]]) == 0
    assert days(3)[2] in predictions.by_day
    assert pipeline.stale_days(days(3)) == []
    assert_nothing_is_left(pipeline)


def test_a_model_that_goes_live_while_a_day_is_scored_has_no_part_in_it(
    copy: Callable[[], Pipeline], expected: dict[str, list[dict[str, Any]]]
) -> None:
    pipeline = copy()
    heard, tell = multiprocessing.Pipe(duplex=False)
    release, go_on = multiprocessing.Pipe(duplex=False)
    process = start(
        pipeline.settings.home, DAYS, hold_at=Moment.DAY_LOCKED, tell=tell, release=release
    )
    heard.recv()
    old = pipeline.models.live("fraud_model")
    put_any_model_live(pipeline, seed=1)
    go_on.send("")
    assert end(process) == 0
    assert contents(pipeline) == expected
    assert {row["model_version"] for row in ledger(pipeline)} == {old}


def test_a_day_that_was_given_up_for_another_model_is_scored_whole_by_the_new_one(
    copy: Callable[[], Pipeline],
) -> None:
    pipeline = copy()
    home = pipeline.settings.home
    assert end(start(home, DAYS, kill_at=Moment.CHUNK_RECORDED, times=2)) == -9
    version = put_any_model_live(pipeline, seed=1)
    assert end(start(home, DAYS)) == 0
    found = contents(pipeline)
    assert {row["model_version"] for row in found["fraud_predictions"]} == {version}
    assert {row["model_version"] for row in found[EMBEDDINGS.name]} == {version}
    assert_every_row_is_accounted_for(pipeline, most_twice=2 * CHUNK_ROWS)


def test_what_is_kept_of_a_day_that_nobody_finishes_is_shown_and_in_the_end_removed(
    copy: Callable[[], Pipeline],
) -> None:
    pipeline = copy()
    home = pipeline.settings.home
    assert end(start(home, DAYS[:1], kill_at=Moment.CHUNK_RECORDED, times=2)) == -9
    shown = status(pipeline)["scoring"]
    assert shown["unfinished_days"] == [{"day": str(START), "rows_kept": 2 * CHUNK_ROWS}]
    assert forget_unfinished(pipeline.warehouse) == []
    with FileLock(home / ".chunks" / f"{START}.lock"):
        assert forget_unfinished(pipeline.warehouse, seconds=0) == []
    assert forget_unfinished(pipeline.warehouse, seconds=0) == [START]
    assert status(pipeline)["scoring"]["unfinished_days"] == []


def test_a_new_model_scores_again_the_days_asked_for_and_the_old_scores_stay_readable(
    copy: Callable[[], Pipeline],
) -> None:
    from deltalake import DeltaTable

    pipeline = copy()
    pipeline.build(PREDICTIONS, DAYS)
    before = pipeline.warehouse.snapshot(tables.FRAUD_PREDICTIONS)
    old = pipeline.models.live("fraud_model")
    new = put_any_model_live(pipeline, seed=1)
    open_pipeline().build(PREDICTIONS, DAYS[1:])
    now = {row["day"]: row["model_version"] for row in contents(pipeline)["fraud_predictions"]}
    assert now == {DAYS[0]: old, DAYS[1]: new}
    kept = DeltaTable(before.root, version=before.version).to_pyarrow_table()
    assert set(kept["model_version"].to_pylist()) == {old}
    assert kept.num_rows == 2 * ROWS


def test_a_reader_never_gets_scores_and_vectors_of_two_models(
    copy: Callable[[], Pipeline],
) -> None:
    pipeline = copy()
    home = pipeline.settings.home
    day = DAYS[0]
    pipeline.build(PREDICTIONS, [day])
    ids = [row["transaction_id"] for row in contents(pipeline)["fraud_predictions"]]
    versions, empty, both = set(), 0, 0
    for seed in range(1, 4):
        put_any_model_live(pipeline, seed)
        process = start(home, [day])
        while process.is_alive():
            predictions = pipeline.warehouse.snapshot(tables.FRAUD_PREDICTIONS)
            vectors = pipeline.vectors.lookup(EMBEDDINGS, ids, valid=predictions.keys)
            with pipeline.warehouse.connect() as connection:
                scores = predictions.relation(connection).to_arrow_table()
            assert scores.num_rows == ROWS
            (version,) = set(scores["model_version"].to_pylist())
            versions.add(version)
            if not vectors.num_rows:
                empty += 1
                continue
            both += 1
            assert set(vectors["model_version"].to_pylist()) == {version}
            by_id = dict(zip(scores["transaction_id"], scores["score"], strict=True))
            assert all(
                by_id[i] == s
                for i, s in zip(vectors["transaction_id"], vectors["score"], strict=True)
            )
            assert vectors.num_rows == ROWS
        assert end(process) == 0
    assert len(versions) > 1
    assert both > 0


def test_after_late_rows_only_what_they_changed_is_computed_again(
    copy: Callable[[], Pipeline],
) -> None:
    pipeline = copy()
    home = pipeline.settings.home
    pipeline.update(DAYS)
    scratch = contents(pipeline)
    late = [("late", "c9", "s9", "5.00", f"{DAYS[0]} 23:59:58")]
    Zone(home).deliver(DAYS[1], late, "late.csv")
    again = open_pipeline()
    again.update(DAYS)
    again.update(DAYS)
    (_, row) = (row for row in ledger(pipeline) if row["day"] == DAYS[0])
    assert row["rows"] == ROWS + 1
    assert row["rows_reused"] == ROWS
    now = contents(pipeline)
    assert [r for r in now["fraud_predictions"] if r["transaction_id"] == "late"]
    for name in ("fraud_predictions", EMBEDDINGS.name):
        unchanged = {"scoring_key"}
        without = [
            {k: v for k, v in r.items() if k not in unchanged}
            for r in now[name]
            if r["day"] == DAYS[0] and r["transaction_id"] != "late"
        ]
        before = [
            {k: v for k, v in r.items() if k not in unchanged}
            for r in scratch[name]
            if r["day"] == DAYS[0]
        ]
        assert sorted(without, key=str) == sorted(before, key=str)
