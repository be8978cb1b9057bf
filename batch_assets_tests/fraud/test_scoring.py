"""A day is scored whole, or not at all."""

from pathlib import Path

import pytest
import torch

from batch_assets.fraud import tables
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
