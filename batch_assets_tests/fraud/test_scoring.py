"""A day is scored whole, or not at all."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from batch_assets.fraud import chunks, tables
from batch_assets.fraud.embeddings import EMBEDDINGS
from batch_assets.fraud.scorer import MODEL
from batch_assets.inference.blocks import NotFinite
from batch_assets_tests.fraud.zone import START, Zone, a_day_of_rows, put_any_model_live, rows_of


def test_scores_that_are_no_numbers_are_an_error_that_names_them_and_nothing_is_stored(
    home: Path,
) -> None:
    zone = Zone(home).describe()
    zone.deliver(START, a_day_of_rows(START))
    pipeline = zone.pipeline()
    good = pipeline.models.load(put_any_model_live(pipeline), MODEL)
    broken = {name: torch.full_like(t, torch.nan) for name, t in good.tensors.items()}
    version = pipeline.models.save(broken, good.card)
    pipeline.models.promote(version, MODEL)

    with pytest.raises(NotFinite, match=f"Model {version} .* 12 of 12 rows .t-2026-01-01-"):
        pipeline.update([START])
    assert rows_of(pipeline, tables.FRAUD_PREDICTIONS) == []
    assert pipeline.warehouse.snapshot(tables.FRAUD_PREDICTIONS).by_day == {}
    assert pipeline.vectors.days(EMBEDDINGS) == {}

    pipeline.models.roll_back(MODEL)
    pipeline.update([START])
    assert len(rows_of(pipeline, tables.FRAUD_PREDICTIONS)) == 12


def test_all_rows_of_a_chunk_have_one_time_of_scoring(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = chunks._scored

    def row_by_row(*arguments: Any) -> Iterator[pa.RecordBatch]:
        for batch in scored(*arguments):
            yield from (batch.slice(n, 1) for n in range(batch.num_rows))

    monkeypatch.setattr(chunks, "_scored", row_by_row)
    zone = Zone(home).describe()
    zone.deliver(START, a_day_of_rows(START))
    pipeline = zone.pipeline()
    put_any_model_live(pipeline)
    pipeline.update([START])
    snapshot = pipeline.warehouse.snapshot(tables.FRAUD_PREDICTIONS)
    (file,) = snapshot.files
    assert pq.read_metadata(f"{snapshot.root}/{file.path}").num_row_groups == 12
    assert len({row["scored_at"] for row in rows_of(pipeline, tables.FRAUD_PREDICTIONS)}) == 1
