"""Whether a system answers as the tables say."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.serving.load import Ask
from benchmarks.serving.processes import Server, ServerError
from benchmarks.serving.questions import TOLERANCE, K, Questions

SAMPLE = 10
PATIENCE_SECONDS = 60.0


def check_rows(
    server: Server,
    questions: Questions,
    asks: Sequence[Ask],
    translate: Callable[[Ask], Ask] = lambda ask: ask,
    read: Callable[[Any], dict[str, Any]] = lambda answer: answer,
) -> None:
    """Some look-ups give every column of the table's row.

    Raises:
        ServerError: one does not.
    """
    for ask in asks[:SAMPLE]:
        status, answer = server.ask(translate(ask))
        expected = questions.row(ask.path.rpartition("/")[2])
        found = read(answer) if status == 200 else {}
        wrong = [name for name, value in expected.items() if not _same(found.get(name), value)]
        if wrong:
            name = wrong[0]
            raise ServerError(
                f"{ask.path}: status {status}, {name} is {found.get(name)!r}, "
                f"not {expected[name]!r}"
            )


def _same(found: Any, expected: Any) -> bool:
    if found is None:
        return expected is None
    if isinstance(expected, datetime):
        # Feast gives whole seconds, as a number.
        moment = expected.replace(tzinfo=UTC)
        if isinstance(found, int):
            return found == int(moment.timestamp())
        given = datetime.fromisoformat(str(found))
        return (given if given.tzinfo else given.replace(tzinfo=UTC)) == moment
    if isinstance(expected, date):
        return str(found) == str(expected)
    if isinstance(expected, float):
        return isinstance(found, float | int) and abs(found - expected) <= 1e-6 * abs(expected)
    return bool(found == expected)


def recall(
    server: Server, asks: Sequence[Ask], tenth: npt.NDArray[np.float32]
) -> tuple[float, list[dict[str, Any]]]:
    """Share of the K nearest that searches find, over HTTP, and the answers.

    A neighbour counts if it is no farther than the exact K-th one, since several may be as far.
    """
    answers = [_answer(server, ask) for ask in asks[: len(tenth)]]
    hits = 0
    for answer, farthest in zip(answers, tenth, strict=True):
        rows = {row["transaction_id"]: row["distance"] for row in answer["neighbours"]}
        hits += sum(distance <= farthest + TOLERANCE for distance in rows.values())
    return hits / (K * len(tenth)), answers


def _answer(server: Server, ask: Ask) -> Any:
    """An answer; waited for while the server still works on what a load left behind."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        status, answer = server.ask(ask)
        if status == 200:
            return answer
        if time.monotonic() > until:
            raise ServerError(f"{ask.path}: status {status}")
        time.sleep(1)
