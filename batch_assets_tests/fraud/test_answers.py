"""What the server says of fraud beside scores: alerts, reasons, and labels as they become known."""

from datetime import timedelta
from pathlib import Path

import pytest

from batch_assets.errors import BatchAssetsError
from batch_assets.fraud import tables
from batch_assets.fraud.served import fraud_workload
from batch_assets.serving.stored import ViewGone
from batch_assets_tests.fraud.zone import START, Zone, a_day_of_rows, days, put_any_model_live


@pytest.fixture
def zone(home: Path) -> Zone:
    """Two scored days, of the first of which two labels are known."""
    zone = Zone(home).describe()
    for day in days(2):
        zone.deliver(day, a_day_of_rows(day))
    first = a_day_of_rows(START)
    zone.label(START + timedelta(days=1), [(r[0], r[4], n) for n, r in enumerate(first[:2])])
    put_any_model_live(zone.pipeline())
    zone.pipeline().update(days(2))
    return zone


def test_alerts_are_each_customers_riskiest_with_reasons(zone: Zone) -> None:
    predictions = zone.pipeline().warehouse.snapshot(tables.FRAUD_PREDICTIONS)
    found = fraud_workload().alerts(predictions, START, 3)  # type: ignore[misc]
    assert [row["rank"] for row in found] == [1, 2, 3]
    assert len({row["customer_id"] for row in found}) == 3
    assert [row["score"] for row in found] == sorted((r["score"] for r in found), reverse=True)
    assert all(isinstance(text, str) for row in found for text in row["reasons"])
    explained = fraud_workload().explain(found[0]["transaction_id"])  # type: ignore[misc]
    assert explained["score"] == found[0]["score"]
    assert [r["text"] for r in explained["reasons"]][:3] == found[0]["reasons"]


def test_a_day_that_is_not_scored_is_refused(zone: Zone) -> None:
    predictions = zone.pipeline().warehouse.snapshot(tables.FRAUD_PREDICTIONS)
    with pytest.raises(BatchAssetsError, match="2026-02-01 is not scored"):
        fraud_workload().alerts(predictions, START.replace(month=2), 3)  # type: ignore[misc]


def test_labels_are_known_after_the_next_refresh(zone: Zone) -> None:
    ids = [str(row[0]) for row in a_day_of_rows(START)]
    workload = fraud_workload()
    known = workload.known
    assert known(ids) == {}
    workload.refresh()
    assert known([*ids, "unknown"]) == {ids[0]: 0, ids[1]: 1}
    row = a_day_of_rows(START)[2]
    zone.label(START + timedelta(days=1), [(row[0], row[4], 1)], name="more.csv")
    zone.pipeline().update(days(2))
    workload.refresh()
    assert known(ids) == {ids[0]: 0, ids[1]: 1, ids[2]: 1}


def test_no_label_is_known_of_an_empty_home(home: Path) -> None:
    workload = fraud_workload()
    workload.refresh()
    assert workload.known(["t1"]) == {}


def test_files_that_are_gone_are_said_to_be(zone: Zone) -> None:
    workload = fraud_workload()
    workload.refresh()
    warehouse = zone.pipeline().warehouse
    predictions = warehouse.snapshot(tables.FRAUD_PREDICTIONS)
    for table in (tables.FRAUD_PREDICTIONS, tables.FRAUD_LABELS):
        for file in warehouse.snapshot(table).files:
            Path(f"{warehouse.root}/{table.name}/{file.path}").unlink()
    with pytest.raises(ViewGone, match=f"alerts of {START}"):
        workload.alerts(predictions, START, 3)  # type: ignore[misc]
    with pytest.raises(BatchAssetsError, match="labels cannot be read"):
        fraud_workload().refresh()
    workload.refresh()
    assert len(workload.known([str(row[0]) for row in a_day_of_rows(START)])) == 2
