"""Rows scored in real time: one batch for those that wait, durable before the answer."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Future
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import BaseModel

from batch_assets.errors import BatchAssetsError
from batch_assets.serving.lookup import Found
from batch_assets.serving.realtime import Conflict, QueueFull, RealtimeScorer
from batch_assets.serving.realtime_store import Kept, RealtimeStore
from batch_assets.serving.workload import RowRefused, RowsRefused, Workload
from batch_assets.storage.tables import Table
from batch_assets.storage.vectors import VectorTable

SIZE = 4
PARCELS = Table(
    "parcel_risks",
    {
        "parcel": (pa.string(), "Key."),
        "sender": (pa.string(), "Who."),
        "sent_at": (pa.timestamp("us"), "UTC."),
        "risk": (pa.float32(), "0 to 1."),
        "note": (pa.string(), "May be null."),
        "model_version": (pa.string(), "Model."),
        "scored_at": (pa.timestamp("us"), "UTC."),
        "day": (pa.date32(), "Day."),
    },
    "Parcels.",
)


class Parcel(BaseModel):
    parcel: str
    sender: str
    weight: float


WORKLOAD = Workload(
    name="parcels",
    key="parcel",
    time="sent_at",
    score="risk",
    predictions=PARCELS,
    vectors=VectorTable(
        "parcel_vectors",
        pa.schema(
            [
                ("parcel", pa.string()),
                ("day", pa.date32()),
                ("vector", pa.list_(pa.float32(), SIZE)),
                ("scoring_key", pa.string()),
                ("model_version", pa.string()),
            ]
        ),
        key="parcel",
    ),
    entities={"senders": "sender"},
    equals=("sender",),
    ranges=("risk",),
    request=Parcel,
)


class Scale:
    """Scores by weight; notes what it was given."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.known: list[str] = []
        self.compared: set[str] = set()
        self.version = "v1"
        self.gate = threading.Event()
        self.gate.set()
        self.closed = False

    def refresh(self) -> str:
        return self.version

    def score(self, rows: list[Any]) -> pa.Table:
        self.gate.wait()
        self.batches.append([row.parcel for row in rows])
        if any(row.weight == 666 for row in rows):
            raise ZeroDivisionError
        refused = {
            n: RowRefused("weight", "should not be below zero")
            for n, row in enumerate(rows)
            if row.weight < 0
        }
        if refused:
            raise RowsRefused(refused)
        moment = datetime(2026, 1, 2, 3, 4, 5, 678901)
        columns: dict[str, list[Any]] = {
            "parcel": [row.parcel for row in rows],
            "sender": [row.sender for row in rows],
            "sent_at": [moment] * len(rows),
            "risk": [np.float32(row.weight / 3) for row in rows],
            "note": [None] * len(rows),
            "model_version": [self.version] * len(rows),
            "scored_at": [moment] * len(rows),
            "day": [date(2026, 1, 2)] * len(rows),
        }
        table = pa.table(columns, schema=PARCELS.schema.remove_metadata())
        vectors = [[row.weight / 7] * SIZE for row in rows]
        return table.append_column("vector", pa.array(vectors, pa.list_(pa.float32(), SIZE)))

    def remember(self, rows: list[Any]) -> None:
        self.known += [row.parcel for row in rows]

    def settled(self, days: Mapping[date, Collection[str]]) -> set[str]:
        return {key for keys in days.values() for key in keys} & self.compared

    def close(self) -> None:
        self.closed = True


def parcel(n: int, weight: float | None = None, sender: str = "a") -> Parcel:
    return Parcel(parcel=f"p{n}", sender=sender, weight=float(n) if weight is None else weight)


def store(folder: Path) -> RealtimeStore:
    return RealtimeStore(folder, "parcels", PARCELS, "parcel")


def scorer(folder: Path, scale: Scale, most_waiting: int = 1_000) -> RealtimeScorer:
    made = RealtimeScorer(WORKLOAD, scale, store(folder), most_waiting)
    made.start()
    return made


@pytest.fixture
def scale() -> Scale:
    return Scale()


@pytest.fixture
def realtime(tmp_path: Path, scale: Scale) -> Iterator[RealtimeScorer]:
    made = scorer(tmp_path, scale)
    yield made
    scale.gate.set()
    made.stop()


def answers(futures: list["Future[Found]"]) -> list[Any]:
    return [f.exception(30) or f.result().row["risk"] for f in futures]


def test_an_answer_is_found_by_key_and_by_entity_with_its_vector(realtime: RealtimeScorer) -> None:
    found = realtime.submit(parcel(2, sender="b")).result(30)
    assert found.source == "realtime"
    assert found.row["risk"] == float(np.float32(2 / 3))
    assert realtime.get("p2") == found
    assert realtime.of_entity("sender", "b") == [found]
    assert realtime.get("p3") is None
    assert realtime.of_entity("sender", "a") == []
    vectors = realtime.vectors()
    assert vectors["parcel"].to_pylist() == ["p2"]
    assert vectors["vector"].to_pylist() == [[float(np.float32(2 / 7))] * SIZE]
    assert vectors.drop_columns("vector").to_pylist() == [found.row]


def test_rows_that_wait_together_are_one_batch(realtime: RealtimeScorer, scale: Scale) -> None:
    scale.gate.clear()
    first = realtime.submit(parcel(0))
    while realtime.waiting:  # until the first is being scored
        pass
    rest = [realtime.submit(parcel(n)) for n in range(1, 20)]
    scale.gate.set()
    assert len(answers([first, *rest])) == 20
    assert [len(batch) for batch in scale.batches] == [1, 19]


def test_the_same_again_gets_the_same_answer_and_other_content_a_conflict(
    realtime: RealtimeScorer, scale: Scale
) -> None:
    scale.gate.clear()
    futures = [realtime.submit(row) for row in (parcel(9), parcel(1), parcel(1), parcel(1, 5.0))]
    scale.gate.set()
    _, one, again, other = (f.exception(30) or f.result() for f in futures)
    assert one == again
    assert isinstance(other, Conflict)
    assert realtime.submit(parcel(1)).result(30) == one
    assert isinstance(realtime.submit(parcel(1, 6.0)).exception(30), Conflict)
    assert sorted(key for batch in scale.batches for key in batch) == ["p1", "p9"]


def test_refused_rows_are_told_why_and_the_others_are_scored(
    realtime: RealtimeScorer, scale: Scale
) -> None:
    scale.gate.clear()
    realtime.submit(parcel(0))
    futures = [realtime.submit(row) for row in (parcel(1), parcel(2, -1.0), parcel(3))]
    scale.gate.set()
    one, refused, three = answers(futures)
    assert isinstance(refused, RowRefused)
    assert refused.field == "weight"
    assert (one, three) == (float(np.float32(1 / 3)), 1.0)
    assert realtime.get("p2") is None
    assert "p2" not in scale.known


def test_a_failure_is_told_and_spoils_no_other_row(realtime: RealtimeScorer, scale: Scale) -> None:
    scale.gate.clear()
    futures = [realtime.submit(parcel(n, w)) for n, w in ((0, 0), (1, 666.0), (2, 3.0))]
    scale.gate.set()
    zero, failed, one = answers(futures)
    assert isinstance(failed, ZeroDivisionError)
    assert (zero, one, realtime.errors) == (0.0, 1.0, 1)
    assert realtime.submit(parcel(1, 3.0)).result(30).row["risk"] == 1.0


def test_a_full_queue_takes_no_more_and_a_stop_finishes_what_was_taken(
    tmp_path: Path, scale: Scale
) -> None:
    realtime = scorer(tmp_path, scale, most_waiting=3)
    scale.gate.clear()
    taken = [realtime.submit(parcel(0))]
    while realtime.waiting:
        pass
    taken += [realtime.submit(parcel(n)) for n in (1, 2, 3)]
    with pytest.raises(QueueFull):
        realtime.submit(parcel(4))
    stopping = threading.Thread(target=realtime.stop)
    stopping.start()
    scale.gate.set()
    stopping.join()
    assert [f.result(0).row["parcel"] for f in taken] == ["p0", "p1", "p2", "p3"]
    assert scale.closed
    with pytest.raises(QueueFull):
        realtime.submit(parcel(5))


def test_a_restart_finds_and_remembers_all(tmp_path: Path, scale: Scale) -> None:
    before = scorer(tmp_path, scale)
    found = [before.submit(parcel(n)).result(30) for n in range(5)]
    vectors = before.vectors()
    before.stop()
    again = Scale()
    after = scorer(tmp_path, again)
    assert [after.get(f"p{n}") for n in range(5)] == found
    assert after.vectors().equals(vectors)
    assert again.known == [f"p{n}" for n in range(5)]
    assert after.submit(parcel(3)).result(30) == found[3]
    assert again.batches == []
    after.stop()


def test_servers_on_one_home_see_each_others_rows(tmp_path: Path, scale: Scale) -> None:
    other_scale = Scale()
    one, other = scorer(tmp_path, scale), scorer(tmp_path, other_scale)
    found = one.submit(parcel(1)).result(30)
    assert other.submit(parcel(1)).result(30).row == found.row  # whoever came first
    assert isinstance(other.submit(parcel(1, 2.0)).exception(30), Conflict)
    one.submit(parcel(2)).result(30)
    while other.get("p2") is None:  # it looks from time to time
        pass
    assert "p2" in other_scale.known
    one.stop()
    other.stop()


def test_rows_that_were_compared_with_the_batch_give_way(tmp_path: Path, scale: Scale) -> None:
    made = RealtimeScorer(WORKLOAD, scale, store(tmp_path), grace_seconds=0, cleaning_seconds=0)
    made.start()
    for n in (1, 2):
        made.submit(parcel(n)).result(30)
        assert made.vectors()["parcel"].to_pylist() == ["p1", "p2"][:n]
    scale.compared = {"p1"}
    while made.get("p1") is not None:
        pass
    assert made.get("p2") is not None
    assert [found.row["parcel"] for found in made.of_entity("sender", "a")] == ["p2"]
    assert made.vectors()["parcel"].to_pylist() == ["p2"]
    made.stop()
    kept = store(tmp_path)
    assert [one.row["parcel"] for one in kept.after(0)] == ["p2"]
    kept.close()


def test_what_was_put_first_stays(tmp_path: Path) -> None:
    kept = store(tmp_path)
    row = dict.fromkeys(PARCELS.columns) | {"parcel": "p1", "risk": 0.1, "day": date(2026, 1, 2)}
    one = Kept("a", "{}", row, np.arange(SIZE, dtype=np.float32))
    other = Kept("b", "{}", row | {"risk": 0.2}, one.vector)
    (first,) = kept.put([one])
    assert (first.content, first.row) == ("a", row)
    assert np.array_equal(first.vector, one.vector)
    assert kept.put([other])[0].content == "a"
    fewer = Table("parcel_risks", {"parcel": (pa.string(), "Key.")}, "")
    with pytest.raises(BatchAssetsError, match="other columns"):
        RealtimeStore(tmp_path, "parcels", fewer, "parcel")
    kept.close()


def test_a_kill_under_load_loses_no_answer_that_was_given(tmp_path: Path) -> None:
    """A real process prints each answer that it gives, until it is killed."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"from {__name__} import answer_forever as go; go({str(tmp_path)!r})",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    given = [json.loads(process.stdout.readline()) for _ in range(300)]
    os.kill(process.pid, signal.SIGKILL)
    given += [json.loads(line) for line in process.stdout.read().splitlines() if line[-1:] == "]"]
    assert process.wait() == -signal.SIGKILL
    kept = store(tmp_path)
    stored = {one.row["parcel"]: one.row["risk"] for one in kept.after(0)}
    kept.close()
    assert len(given) >= 300
    assert {key: stored.get(key) for key, _ in given} == dict(given)


def answer_forever(folder: str) -> None:
    realtime = scorer(Path(folder), Scale())
    n = 0
    while True:
        futures = [realtime.submit(parcel(n + i, 0.5 + i)) for i in range(25)]
        n += len(futures)
        for future in futures:
            row = future.result(30).row
            print(json.dumps([row["parcel"], row["risk"]]), flush=True)
