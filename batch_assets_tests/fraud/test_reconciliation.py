"""What servers said in real time is compared with what the batch says, whichever came last."""

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from batch_assets.fraud import tables
from batch_assets.fraud.assets import reconciliation
from batch_assets.fraud.assets.reconciliation import agreement
from batch_assets.fraud.build import Built
from batch_assets.fraud.embeddings import EMBEDDING_SIZE
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.fraud.realtime import FraudRealtime
from batch_assets.fraud.reconciliation import TABLE, differences, realtime_file, reconcile
from batch_assets.serving.realtime_store import Kept, RealtimeStore
from batch_assets.storage.resources import WarehouseResource
from batch_assets_tests.fraud.zone import (
    START,
    Zone,
    a_day_of_rows,
    days,
    put_any_model_live,
    rows_of,
)


@pytest.fixture
def pipeline(home: Path) -> Pipeline:
    zone = Zone(home).describe()
    for day in days(2):
        zone.deliver(day, a_day_of_rows(day))
    pipeline = zone.pipeline()
    put_any_model_live(pipeline)
    pipeline.update(days(2))
    return pipeline


def told(pipeline: Pipeline, rows: list[dict[str, Any]]) -> RealtimeStore:
    """Servers said this."""
    folder = realtime_file(pipeline.settings.home).parent
    store = RealtimeStore(folder, "fraud", tables.FRAUD_PREDICTIONS, "transaction_id")
    vector = np.zeros(EMBEDDING_SIZE, np.float32)
    store.put([Kept("content", "{}", row, vector) for row in rows])
    return store


def said(pipeline: Pipeline) -> dict[str, tuple[str, str | None]]:
    return {r["transaction_id"]: (r["status"], r["what_differs"]) for r in rows_of(pipeline, TABLE)}


def test_each_row_says_whether_and_in_what_it_differs(pipeline: Pipeline) -> None:
    batch = rows_of(pipeline, tables.FRAUD_PREDICTIONS)
    first = [row for row in batch if row["day"] == START]
    same, near, features, model, amount, who = (dict(row) for row in first[:6])
    near["score"] = float(np.float32(near["score"] + 5e-7))
    features["score"] += 0.25
    model |= {"score": model["score"] - 0.125, "model_version": "another"}
    amount |= {"score": amount["score"] + 0.5, "amount": amount["amount"] + 1}
    who |= {"score": who["score"] + 0.5, "customer_id": "somebody else"}
    unknown = same | {"transaction_id": "unknown"}
    told(pipeline, [same, near, features, model, amount, who, unknown]).close()
    done = reconcile(pipeline, days(2), Built())
    assert (done.made, done.unchanged) == ([START], [START + timedelta(days=1)])
    assert said(pipeline) == {
        same["transaction_id"]: ("agreed", None),
        near["transaction_id"]: ("agreed", None),
        features["transaction_id"]: ("differs", "features"),
        model["transaction_id"]: ("differs", "model"),
        amount["transaction_id"]: ("differs", "amount"),
        who["transaction_id"]: ("differs", "transaction"),
        "unknown": ("missing", None),
    }
    counted = differences(pipeline, days(2))[START]
    assert {k: counted[k] for k in ("transactions", "agreed", "differ", "missing")} == {
        "transactions": 7,
        "agreed": 2,
        "differ": 4,
        "missing": 1,
    }
    assert counted["largest_difference"] == pytest.approx(0.5)


def test_it_is_written_again_when_either_side_changed_and_not_otherwise(
    pipeline: Pipeline, home: Path
) -> None:
    batch = [r for r in rows_of(pipeline, tables.FRAUD_PREDICTIONS) if r["day"] == START]
    late = ("late", "c1", "s1", "12.00", datetime(START.year, START.month, START.day, 1))
    unknown = batch[0] | {"transaction_id": "late"}
    store = told(pipeline, [batch[0], unknown])
    assert reconcile(pipeline, [START], Built()).made == [START]
    assert reconcile(pipeline, [START], Built()).unchanged == [START]
    assert said(pipeline)["late"] == ("missing", None)
    told(pipeline, [batch[1]]).close()
    assert reconcile(pipeline, [START], Built()).made == [START]
    assert batch[1]["transaction_id"] in said(pipeline)
    Zone(home).deliver(START, [late], "late.csv")
    pipeline.update(days(2))
    assert reconcile(pipeline, [START], Built()).made == [START]
    assert said(pipeline)["late"][0] != "missing"
    store.remove([row["transaction_id"] for row in batch])
    store.close()
    before = said(pipeline)
    assert reconcile(pipeline, [START], Built()).unchanged == [START]
    assert said(pipeline) == before


def test_what_was_compared_is_settled(pipeline: Pipeline) -> None:
    batch = rows_of(pipeline, tables.FRAUD_PREDICTIONS)[0]
    keys = {batch["day"]: [batch["transaction_id"], "unknown", "never compared"]}
    told(pipeline, [batch, batch | {"transaction_id": "unknown"}]).close()
    model = FraudRealtime(today=lambda: START + timedelta(days=2))
    assert model.settled(keys) == set()
    reconcile(pipeline, [batch["day"]], Built())
    assert model.settled(keys) == {batch["transaction_id"]}
    model.close()
    later = FraudRealtime(today=lambda: START + timedelta(days=60))
    assert later.settled(keys) == {batch["transaction_id"], "unknown"}
    later.close()


def test_a_home_without_a_server_is_left_alone(pipeline: Pipeline) -> None:
    assert reconcile(pipeline, days(2), Built()).unchanged == days(2)
    assert pipeline.warehouse.snapshot(TABLE).version == -1
    assert not realtime_file(pipeline.settings.home).exists()


def test_the_asset_shows_counts_and_the_check_warns(pipeline: Pipeline) -> None:
    batch = [r for r in rows_of(pipeline, tables.FRAUD_PREDICTIONS) if r["day"] == START]
    told(pipeline, [batch[0], batch[1] | {"score": batch[1]["score"] + 0.25}]).close()
    done = dg.materialize(
        [reconciliation.realtime_reconciliation, *reconciliation.CHECKS],
        partition_key=str(START),
        resources={
            "warehouse": WarehouseResource(
                root=pipeline.warehouse.root, memory_limit="1GB", threads=2
            )
        },
    )
    assert done.success
    (event,) = done.get_asset_materialization_events()
    shown = {name: value.value for name, value in event.materialization.metadata.items()}
    assert (shown["transactions"], shown["agreed"], shown["other_features"]) == (2, 1, 1)
    (check,) = done.get_asset_check_evaluations()
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.WARN


def counts(**of_day: int) -> dict[str, Any]:
    zero = dict.fromkeys(("transactions", "agreed", "differ", "missing", "other_model"), 0)
    return {"day": date(2026, 1, 1), "largest_difference": 0.0} | zero | of_day


@pytest.mark.parametrize(
    ("of_day", "passed"),
    [
        (counts(), True),
        (counts(transactions=100, agreed=95, differ=5), True),
        (counts(transactions=100, agreed=94, differ=6), False),
        (counts(transactions=100, agreed=10, differ=90, other_model=90), True),
        (counts(transactions=100, missing=100), True),
    ],
)
def test_only_differences_under_the_same_model_count(of_day: dict[str, Any], passed: bool) -> None:
    assert agreement([of_day]).passed == passed
