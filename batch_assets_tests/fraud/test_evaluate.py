"""Which rows an evaluation measures, and by which model."""

from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from batch_assets.errors import BatchAssetsError
from batch_assets.fraud.evaluate import Split, measured_rows, score_rows
from batch_assets.fraud.keys import CLEAN, FEATURES, LABELS, RATES, TOTALS
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.fraud.train_model import train_on
from batch_assets_tests.fraud.zone import START, Zone, a_day_of_rows, days


def day(number: int) -> date:
    return START + timedelta(days=number)


def split(first: int, last: int) -> Split:
    """Trained on days from first to last, tested on the two days after the delay."""
    return Split((day(first), day(last)), (day(last + 8), day(last + 9)))


@pytest.fixture
def pipeline(home: Path) -> Pipeline:
    """26 days with two frauds each; those of customer c0 are all on day 3."""
    zone = Zone(home).describe()
    for n, one in enumerate(days(26)):
        rows = a_day_of_rows(one)
        zone.deliver(one, rows)
        frauds = [row for row in rows if (row[1] == "c0") == (n == 3) and row[1] in ("c0", "c1")]
        zone.label(one, [(row[0], row[4], 1) for row in frauds[:2]])
    made = zone.pipeline()
    for kind in ("transactions", "labels", "rates"):
        made.ingest(kind, days(26))
    for step in (RATES, CLEAN, LABELS, TOTALS, FEATURES):
        made.build(step, days(26))
    return made


def customers(rows: pa.Table) -> set[str]:
    return set(pc.unique(rows["customer_id"]).to_pylist())


def test_customers_known_since_the_last_training_week_are_left_out(pipeline: Pipeline) -> None:
    assert "c0" not in customers(measured_rows(pipeline, split(2, 8)))
    assert "c0" in customers(measured_rows(pipeline, split(8, 14)))
    assert "c1" not in customers(measured_rows(pipeline, split(8, 14)))


def test_a_longer_training_is_measured_on_the_same_rows(pipeline: Pipeline) -> None:
    week, longer = split(8, 14), split(0, 14)
    assert measured_rows(pipeline, week).equals(measured_rows(pipeline, longer))


def test_a_model_of_fewer_features_scores_the_same_rows(pipeline: Pipeline) -> None:
    features = ["amount", "customer_tx_count_7d"]
    tensors, card = train_on(pipeline, days(15), 0, features)
    rows = measured_rows(pipeline, split(8, 14))
    scored = score_rows(pipeline, tensors, card, rows)
    assert card["features"] == features
    assert scored.drop_columns("score").equals(rows.select(scored.schema.names[:-1]))
    assert ((pc.min(scored["score"]).as_py() > 0), (pc.max(scored["score"]).as_py() < 1)) == (
        True,
        True,
    )


def test_test_days_whose_labels_were_not_known_are_refused() -> None:
    with pytest.raises(BatchAssetsError, match="cannot begin on 2026-01-15"):
        Split((day(0), day(6)), (day(14), day(14)), delay=8)
