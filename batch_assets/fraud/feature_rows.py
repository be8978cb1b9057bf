"""Rows of ``transaction_features``, and beside ours the features of one's own asked for."""

from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from batch_assets.errors import BatchAssetsError
from batch_assets.fraud import tables
from batch_assets.fraud.keys import State
from batch_assets.fraud.own_files import FOLDER, JOINED, OWN, OwnFeatureError, own_files
from batch_assets.storage.tables import Table

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Connection
    from duckdb import DuckDBPyRelation as Relation


def register_features(
    connection: "Connection", state: State, days: Sequence[date], features: Iterable[str] = ()
) -> None:
    """Make ``transaction_features`` of some days a view of the connection.

    Args:
        features: inputs of a model; those of one's own among them are columns of the view, too.

    Raises:
        OwnFeatureError: there is no such feature any more.
        BatchAssetsError: a day is to be built before.
    """
    feature_rows(connection, state, days, features).create_view("transaction_features", True)


def register_scored_features(connection: "Connection", state: State, days: Sequence[date]) -> None:
    """The same with what the models read that made the view ``fraud_predictions``."""
    scored_by = connection.view("fraud_predictions").select("model_version").distinct().fetchall()
    features = [name for (version,) in scored_by for name in state.model_features(version)]
    register_features(connection, state, days, features)


def feature_rows(
    connection: "Connection", state: State, days: Sequence[date], features: Iterable[str] = ()
) -> "Relation":
    """See :func:`register_features`."""
    snapshot = state.snapshot(tables.TRANSACTION_FEATURES)
    rows = snapshot.relation(connection, snapshot.on(days))
    for table, columns in own_columns(state, features).items():
        held = state.snapshot(table)
        missing = [day for day in days if day in snapshot.by_day and day not in held.by_day]
        if missing:
            raise BatchAssetsError(
                f"{table.name} of {missing[0]} is not built: run `batch-assets run --from "
                f"{min(missing)} --to {max(missing)}` first"
            )
        more = held.relation(connection, held.on(days)).select("transaction_id", "day", *columns)
        rows = rows.join(more, "transaction_id, day", how="left")
    return rows


def own_columns(state: State, features: Iterable[str]) -> dict[Table, list[str]]:
    """The tables in which features of one's own stand, and the columns of each.

    Raises:
        OwnFeatureError: a file is gone, or it gives no such column; names both.
    """
    found: dict[Table, list[str]] = {}
    for feature in dict.fromkeys(features):
        file, joined, column = feature.partition(JOINED)
        if not joined:
            continue
        step = state.own.get(f"{OWN}{file}")
        if step is None or feature not in step.tables[0].columns:
            raise OwnFeatureError(_gone(state.settings.home, file, column))
        found.setdefault(step.tables[0], []).append(feature)
    return found


def _gone(home: Path, file: str, column: str) -> str:
    path = home / FOLDER / f"{file}.sql"
    problems = [one.problem for one in own_files(home) if one.path == path and one.problem]
    if problems:
        why = f"that file cannot be used: {problems[0]}"
    elif path.exists():
        why = "that file gives no such column any more"
    else:
        why = "there is no such file any more"
    return (
        f"the model reads {column!r} of {path}, and {why}; put it back, or make a model live that "
        "does without it (`batch-assets models list`)"
    )
