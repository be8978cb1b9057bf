"""The benchmark of the server judges answers rightly, and says whether a goal was reached."""

from datetime import date, datetime
from typing import Any

import numpy as np
import pytest

from benchmarks.serving import checks, report, systems
from benchmarks.serving.load import Ask
from benchmarks.serving.measure import medians
from benchmarks.serving.processes import ServerError
from benchmarks.serving.questions import PREDICTIONS, SIMILAR, K

ROW = {
    "transaction_id": "E1",
    "happened_at": datetime(2026, 5, 17, 11, 31, 44),
    "amount": 27.75,
    "day": date(2026, 5, 17),
}
RIGHT = {
    "transaction_id": "E1",
    "happened_at": "2026-05-17T11:31:44Z",
    "amount": 27.75,
    "day": "2026-05-17",
    "source": "memory",
}


class Tables:
    """What the tables say."""

    def row(self, id: str) -> dict[str, Any]:
        return ROW


class Answering:
    """A server that gives one answer to everything."""

    def __init__(self, answer: dict[str, Any], status: int = 200) -> None:
        self.answer, self.status = answer, status

    def ask(self, ask: Ask) -> tuple[int, Any]:
        return self.status, self.answer


def checked(answer: dict[str, Any], status: int = 200) -> None:
    asks = [Ask(f"{PREDICTIONS}/E1")]
    checks.check_rows(Answering(answer, status), Tables(), asks)  # type: ignore[arg-type]


def test_a_right_answer_is_accepted_with_what_stands_beside_it() -> None:
    checked(RIGHT)


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount": 27.76},
        {"happened_at": "2026-05-17T11:31:45Z"},
        {"happened_at": 1779017505},
        {"day": "2026-05-18"},
        {"transaction_id": "E2"},
        {"amount": None},
    ],
)
def test_a_wrong_column_is_found(wrong: dict[str, Any]) -> None:
    with pytest.raises(ServerError, match=next(iter(wrong))):
        checked({**RIGHT, **wrong})


def test_no_answer_is_no_right_answer() -> None:
    with pytest.raises(ServerError, match="status 404"):
        checked(RIGHT, 404)


def test_recall_counts_each_neighbour_once_and_only_near_ones() -> None:
    near = [{"transaction_id": f"E{n}", "distance": 0.1} for n in range(6)]
    far = [{"transaction_id": "E9", "distance": 0.3}]
    server = Answering({"neighbours": [*near, *near[:3], *far]})
    tenth = np.array([0.2, 0.2], np.float32)
    share, _ = checks.recall(server, [Ask(SIMILAR, "{}")] * 2, tenth)  # type: ignore[arg-type]
    assert share == 6 / K


def test_an_answer_of_feast_reads_as_a_row() -> None:
    answer = {
        "metadata": {"feature_names": ["transaction_id", "score"]},
        "results": [{"values": ["E1"]}, {"values": [0.5]}],
    }
    assert systems.feast_row(answer) == {"transaction_id": "E1", "score": 0.5}
    assert '"transaction_id": ["E1"]' in systems.feast_ask(Ask(f"{PREDICTIONS}/E1")).body


def test_several_runs_give_the_median_of_each_figure() -> None:
    runs = [
        {"p50_ms": 1.0, "failed": 0},
        {"p50_ms": 9.0, "failed": 2},
        {"p50_ms": 2.0, "failed": 1},
    ]
    assert medians(runs) == {"p50_ms": 2.0, "failed": 1}


def results(p50: float, p99: float) -> dict[str, Any]:
    load = dict.fromkeys(("rate", "p90_ms", "p999_ms", "late_ms", "failed", "not_2xx"), 0)
    lookups = {**load, "p50_ms": p50, "p99_ms": p99}
    return {
        "rows": 5_000_000,
        "days": 180,
        "runs": 3,
        "seconds": 10,
        "feast_rows": 1,
        "feast_rate": 1,
        "load_before": 0.1,
        "peer_versions": {"feast": "1"},
        "systems": {report.MEMORY: {"lookups": lookups}, "feast": {"error": "not installed"}},
    }


@pytest.mark.parametrize(
    ("p50", "p99", "word"),
    [(0.9, 4.9, "reached"), (1.1, 4.9, "not reached"), (0.9, 5.1, "not reached")],
)
def test_a_goal_is_reached_if_all_its_figures_are_below_the_limits(
    p50: float, p99: float, word: str
) -> None:
    found = results(p50, p99)
    shown = report.markdown(found)
    line = next(line for line in shown.splitlines() if "look-ups from memory" in line)
    assert line.endswith(f"| {word} |")
    judged = report.document(found)["goals"]
    assert [goal["reached"] for goal in judged.values()] == [word == "reached"]
    assert "not measured: not installed" in shown
