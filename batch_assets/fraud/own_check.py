"""Whether features of one's own look ahead, and what is known of their files."""

from collections.abc import Sequence
from datetime import date
from typing import Any

import pyarrow as pa

from batch_assets.errors import BatchAssetsError
from batch_assets.fraud import tables
from batch_assets.fraud.keys import State
from batch_assets.fraud.own_features import OwnStep, columns_at, columns_of_day
from batch_assets.fraud.own_files import JOINED, OWN, OwnFeatureError, OwnFile, own_files
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.fraud.sql import sql_text

THIRD_OF_A_SAMPLE = 3
DAYS_CHECKED = 10
TOLERANCE = 1e-6
"""By so much, relative and absolute, sums in another order may differ."""


def sampled_days(days: Sequence[date]) -> list[date]:
    """At most ``DAYS_CHECKED`` of the days, the last one included."""
    step = -(-len(days) // DAYS_CHECKED) or 1
    return sorted(days[::-1][::step])


def stored_columns(state: State, step: OwnStep, day: date) -> pa.Table:
    """What the table holds of a day."""
    snapshot = state.snapshot(step.table)
    with state.warehouse.connect() as connection:
        return snapshot.relation(connection, snapshot.on([day])).to_arrow_table()


def foreseen(state: State, step: OwnStep, day: date, columns: pa.Table) -> list[dict[str, Any]]:
    """Values of a sample of a day that differ from what was known at that moment; none is right.

    Args:
        columns: of the day, as they are stored or would be.

    Returns:
        ``file``, ``column``, ``transaction_id``, ``happened_at``, ``day``, ``found``, ``expected``.
    """
    clean = state.snapshot(tables.CLEAN_TRANSACTIONS)
    with state.warehouse.connect() as connection:
        clean.register(connection, clean.on([day]))
        third = {"third": THIRD_OF_A_SAMPLE}
        sample = connection.sql(sql_text("own_sample"), params=third).to_arrow_table()
    found = {row["transaction_id"]: row for row in columns.to_pylist()}
    known = {r["transaction_id"]: r for r in columns_at(state, step, sample).to_pylist()}
    wrong = []
    for row in sample.to_pylist():
        key = row["transaction_id"]
        for feature in step.file.features:
            values = [of.get(key, {}).get(feature) for of in (found, known)]
            if not _same(*values):
                wrong.append(
                    {
                        "file": step.file.path.name,
                        "column": feature.partition(JOINED)[2],
                        "transaction_id": key,
                        "happened_at": row["happened_at"],
                        "day": day,
                        "found": values[0],
                        "expected": values[1],
                    }
                )
    return wrong


def _same(found: float | None, expected: float | None) -> bool:
    if found is None or expected is None:
        return found is expected
    return abs(found - expected) <= TOLERANCE * (1 + abs(expected))


def in_words(wrong: Sequence[dict[str, Any]]) -> str:
    """The first value of each column that looks ahead."""
    first = {row["column"]: row for row in reversed(wrong)}
    return "; ".join(
        f"column {column!r} of {row['file']} looks ahead: for transaction "
        f"{row['transaction_id']} of {row['happened_at']} it is {_shown(row['found'])}, and from "
        f"what was known at that moment {_shown(row['expected'])}"
        for column, row in sorted(first.items())
    )


def _shown(value: float | None) -> str:
    return "missing" if value is None else f"{value:.9g}"


def listed(pipeline: Pipeline) -> list[dict[str, Any]]:
    """Of each file: what it declares and gives, how many days are built, what is wrong with it."""
    state = pipeline.state()
    return [
        {
            "file": file.path.name,
            "columns": list(file.features),
            "look_back_days": None if file.problem else file.look_back,
            "reads": list(file.reads),
            "days_built": len(state.snapshot(state.own[f"{OWN}{file.name}"].tables[0]).by_day)
            if not file.problem
            else 0,
            "problem": file.problem or None,
        }
        for file in own_files(pipeline.settings.home)
    ]


def checked(
    pipeline: Pipeline, name: str | None = None, day: date | None = None
) -> list[dict[str, Any]]:
    """Run files for a day, without storing anything, and see whether they look ahead.

    Args:
        name: of one file, with or without ``.sql``; all if None.
        day: the newest with transactions if None.

    Returns:
        Of each file ``file``, ``day``, ``rows``, ``columns``, ``problem`` (None if it is right).

    Raises:
        BatchAssetsError: there is no such file, or no transaction.
    """
    home, state = pipeline.settings.home, pipeline.state()
    files = [f for f in own_files(home) if name in (None, f.path.name, f.path.stem)]
    if not files:
        raise BatchAssetsError(
            f"there is no {name or 'SQL file'} in {home / 'features'}: see docs/features.md"
        )
    clean = state.snapshot(tables.CLEAN_TRANSACTIONS)
    day = day or max((d for d in clean.by_day if clean.rows([d])), default=None)
    if day is None or not clean.rows([day]):
        raise BatchAssetsError(
            f"there is no clean transaction {f'of {day} ' if day else ''}to check with: "
            "`batch-assets run` reads them"
        )
    return [_checked_file(pipeline, state, file, day) for file in files]


def _checked_file(pipeline: Pipeline, state: State, file: OwnFile, day: date) -> dict[str, Any]:
    rows, problem = 0, file.problem
    if not problem:
        step = pipeline.own[f"{OWN}{file.name}"]
        try:
            columns = columns_of_day(state, step, day)
            rows = len(columns)
            problem = in_words(foreseen(state, step, day, columns))
        except OwnFeatureError as error:
            problem = str(error)
    return {
        "file": file.path.name,
        "day": day,
        "rows": rows,
        "columns": list(file.features),
        "problem": problem or None,
    }
