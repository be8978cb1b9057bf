"""The files of a day's rows that the model scores."""

import os
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq

from batch_assets.fraud import tables
from batch_assets.fraud.embeddings import PASSED_THROUGH
from batch_assets.fraud.feature_rows import feature_rows, own_columns
from batch_assets.fraud.keys import State
from batch_assets.fraud.landing import digest

Files = tuple[tuple[str, int], ...]
"""Paths and their number of rows, in a fixed order."""


def input_files(state: State, days: Sequence[date], folder: Path) -> dict[date, Files]:
    """The files of ``transaction_features`` by day; if the live model reads features of one's own,
    one of these beside ours, which is kept in ``folder`` while the day is scored.

    Raises:
        OwnFeatureError: a feature that the model reads is gone.
    """
    snapshot = state.snapshot(tables.TRANSACTION_FEATURES)
    ours = {
        day: tuple(
            (f"{snapshot.root}/{file.path}", file.rows)
            for file in sorted(snapshot.by_day.get(day, []), key=lambda file: file.path)
        )
        for day in days
    }
    features = state.model_features(state.model_version) if state.model_version else ()
    own = own_columns(state, features)
    if not own:
        return ours
    return {day: _joined(state, day, features, ours[day], folder) for day in days}


def _joined(state: State, day: date, features: Sequence[str], ours: Files, folder: Path) -> Files:
    """One file, always with the same rows in the same order, made once."""
    own = (state.snapshot(table) for table in own_columns(state, features))
    sources = [path for path, _ in ours] + sorted(f.path for one in own for f in one.on([day]))
    path = folder / f"{day}-{digest(*sources, *features)[:16]}.parquet"
    if not path.exists():
        forget_inputs(folder, day)
        partial = path.with_suffix(".partial")
        wanted = {*PASSED_THROUGH, *features}
        with state.warehouse.connect() as connection:
            rows = feature_rows(connection, state, [day], features)
            columns = [name for name in rows.columns if name in wanted]
            rows.order("happened_at, transaction_id").select(*columns).write_parquet(
                str(partial), compression="zstd"
            )
        os.replace(partial, path)
    return ((str(path), pq.read_metadata(path).num_rows),)


def forget_inputs(folder: Path, day: date) -> None:
    """Remove what was kept while the day was scored."""
    for path in folder.glob(f"{day}-*"):
        path.unlink(missing_ok=True)
