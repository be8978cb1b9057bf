"""Quality in SQL, which needs no day in memory, is that of scikit-learn."""

from datetime import date

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from batch_assets.fraud.sql import sql_text

DAY = date(2026, 1, 1)
# few scores, so that many tie; a label that is None was never delivered
ROWS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.2, 0.9]), st.sampled_from([True, False, None])),
    min_size=1,
    max_size=30,
)


@settings(max_examples=50, deadline=None)
@given(rows=ROWS)
def test_area_and_average_precision_are_those_of_scikit_learn(
    rows: list[tuple[float, bool | None]],
) -> None:
    found = _quality(rows)
    scores = np.array([score for score, _ in rows], np.float32)
    truth = np.array([label is True for _, label in rows])
    if truth.all() or not truth.any():
        assert found == []
    else:
        (day,) = found
        assert day["auc"] == pytest.approx(roc_auc_score(truth, scores))
        assert day["average_precision"] == pytest.approx(average_precision_score(truth, scores))
        assert (day["transactions"], day["frauds"]) == (len(rows), truth.sum())


def _quality(rows: list[tuple[float, bool | None]]) -> list[dict[str, float]]:
    predictions = pa.table(
        {
            "transaction_id": [str(i) for i in range(len(rows))],
            "day": [DAY] * len(rows),
            "score": pa.array([score for score, _ in rows], pa.float32()),
        }
    )
    known = [(str(i), label) for i, (_, label) in enumerate(rows) if label is not None]
    labels = pa.table(
        {
            "transaction_id": pa.array([key for key, _ in known], pa.string()),
            "day": pa.array([DAY] * len(known), pa.date32()),
            "is_fraud": pa.array([label for _, label in known], pa.bool_()),
        }
    )
    with duckdb.connect() as connection:
        connection.register("fraud_predictions", predictions)
        connection.register("fraud_labels", labels)
        return connection.sql(sql_text("insight_quality")).to_arrow_table().to_pylist()
