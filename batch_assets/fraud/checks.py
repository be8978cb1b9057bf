"""Asset checks. The blocking ones stop what comes after a table that is wrong."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date
from typing import Any

import dagster as dg

from batch_assets.fraud import tables
from batch_assets.fraud.assets.common import pipeline_of
from batch_assets.fraud.embeddings import EMBEDDINGS
from batch_assets.fraud.keys import (
    CLEAN,
    FEATURES,
    LABELS,
    MISSING,
    PREDICTIONS,
    TOTALS,
    State,
    Step,
    days_between,
)
from batch_assets.fraud.pipeline import Pipeline, last_closed_day
from batch_assets.fraud.sql import sql_text
from batch_assets.partitions import days_of
from batch_assets.storage.resources import ModelStoreResource, WarehouseResource
from batch_assets.storage.tables import Table
from batch_assets.storage.vectors.filters import OneOf
from batch_assets.storage.vectors.resource import LanceDBResource

EXAMPLES = 10
NEWEST_DAYS = 30


def days_to_check(context: dg.AssetCheckExecutionContext, pipeline: Pipeline) -> list[date]:
    """The run's partitions; of a check that is run by itself, the newest days that were built."""
    if context.has_partition_key_range or context.has_partition_key:
        return days_of(context.partition_keys)
    built = sorted(pipeline.warehouse.snapshot(tables.CLEAN_TRANSACTIONS).by_day)
    return built[-NEWEST_DAYS:] or [last_closed_day()]


def _changed_meanwhile(
    state: State, days: Sequence[date], steps: Sequence[Step], look_back: int = 0
) -> set[date]:
    """Days that were built from what is no longer so: another run goes on, or late rows came.

    They are to be built, and checked, again; until then they may disagree with other days.
    """
    wide = days_between(date.fromordinal(min(days).toordinal() - look_back), max(days))
    changed = [
        day
        for day in wide
        if any(state.recorded(s, day) not in (MISSING, state.key(s, day)) for s in steps)
    ]
    return {d for d in days if any(0 <= (d - c).days <= look_back for c in changed)}


def _wrong_rows(
    state: State, sql_name: str, views: Mapping[str, tuple[Table, Sequence[date]]]
) -> list[dict[str, Any]]:
    """Rows of a statement that selects what is wrong; none is right."""
    with state.warehouse.connect() as connection:
        for name, (table, days) in views.items():
            snapshot = state.snapshot(table)
            snapshot.register(connection, snapshot.on(days), name)
        return connection.sql(sql_text(sql_name)).to_arrow_table().to_pylist()


def result(
    wrong: list[dict[str, Any]], what: str, days: Sequence[date], changed: Collection[date]
) -> dg.AssetCheckResult:
    """Passed if nothing is wrong; shows some of what is."""
    metadata: dict[str, Any] = {
        "days": f"{days[0]} to {days[-1]}",
        "wrong": len(wrong),
        "days_to_be_built_again": len(changed),
    }
    if wrong:
        columns = [dg.TableColumn(name, "string") for name in wrong[0]]
        records = [dg.TableRecord({k: str(v) for k, v in row.items()}) for row in wrong[:EXAMPLES]]
        metadata["examples"] = dg.TableMetadataValue(records, dg.TableSchema(columns))
    return dg.AssetCheckResult(passed=not wrong, description=what, metadata=metadata)


@dg.asset_check(asset="clean_transactions", blocking=True)
def every_record_is_accounted_for(
    context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource
) -> dg.AssetCheckResult:
    """Of each file: records in = clean + quarantined + duplicate."""
    with pipeline_of(warehouse) as pipeline:
        days, state = days_to_check(context, pipeline), pipeline.state()
        changed = _changed_meanwhile(state, days, [CLEAN])
        steady = [day for day in days if day not in changed]
        with state.warehouse.connect() as connection:
            files = [f for d in steady for f in state.raw_transactions.get(d, [])]
            state.snapshot(tables.RAW_TRANSACTIONS).register(connection, files)
            for table in (
                tables.CLEAN_TRANSACTIONS,
                tables.QUARANTINED_TRANSACTIONS,
                tables.DUPLICATE_TRANSACTIONS,
            ):
                snapshot = state.snapshot(table)
                snapshot.register(connection, snapshot.on(steady))
            rows = connection.sql(sql_text("check_accounting")).to_arrow_table().to_pylist()
    return result(rows, "files whose records are not all accounted for", days, changed)


@dg.asset_check(asset="clean_transactions", blocking=True)
def transaction_keys_are_unique(
    context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource
) -> dg.AssetCheckResult:
    """No key of these days stands twice, on whatever day."""
    with pipeline_of(warehouse) as pipeline:
        days, state = days_to_check(context, pipeline), pipeline.state()
        clean = tables.CLEAN_TRANSACTIONS
        held = sorted({*state.snapshot(clean).by_day, *days})
        changed = _changed_meanwhile(state, held, [CLEAN])
        views = {
            "fresh": (clean, [day for day in days if day not in changed]),
            "every": (clean, [day for day in held if day not in changed]),
        }
        wrong = _wrong_rows(state, "check_unique_keys", views)
    return result(wrong, "keys that stand more than once", days, changed)


@dg.asset_check(asset="transaction_features", blocking=True)
def features_do_not_look_ahead(
    context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource
) -> dg.AssetCheckResult:
    """A sample of each day, computed again row by row from what was known at that moment alone."""
    with pipeline_of(warehouse) as pipeline:
        days, state = days_to_check(context, pipeline), pipeline.state()
        steps = [CLEAN, LABELS, TOTALS, FEATURES]
        changed = _changed_meanwhile(state, days, steps, FEATURES.look_back)
        steady = [day for day in days if day not in changed]
        back = days_between(date.fromordinal(days[0].toordinal() - FEATURES.look_back), days[-1])
        views = {
            "transaction_features": (tables.TRANSACTION_FEATURES, steady),
            "clean_transactions": (tables.CLEAN_TRANSACTIONS, back),
            "fraud_labels": (tables.FRAUD_LABELS, back),
        }
        wrong = _wrong_rows(state, "check_look_ahead", views)
    return result(wrong, "features that differ from what was known at that moment", days, changed)


@dg.asset_check(
    asset="fraud_predictions",
    blocking=True,
    additional_deps=["clean_transactions", "transaction_features", "transaction_embeddings"],
)
def every_transaction_is_scored(
    context: dg.AssetCheckExecutionContext,
    warehouse: WarehouseResource,
    vectors: LanceDBResource,
) -> dg.AssetCheckResult:
    """Every clean transaction has features, a score and a vector, all of the same scoring."""
    with pipeline_of(warehouse, vectors) as pipeline:
        days, state = days_to_check(context, pipeline), pipeline.state()
        changed = _changed_meanwhile(state, days, [CLEAN, LABELS, TOTALS, FEATURES, PREDICTIONS])
        steady = [day for day in days if day not in changed]
        views = {
            table.name: (table, steady)
            for table in (
                tables.CLEAN_TRANSACTIONS,
                tables.TRANSACTION_FEATURES,
                tables.FRAUD_PREDICTIONS,
            )
        }
        wrong = _wrong_rows(state, "check_complete", views)
        wrong += _vector_gaps(state, steady)
    return result(wrong, "transactions without features, score or vector", days, changed)


def _vector_gaps(state: State, days: Sequence[date]) -> list[dict[str, Any]]:
    predictions = state.snapshot(tables.FRAUD_PREDICTIONS)
    gaps = []
    for day in days:
        key, rows = predictions.keys.get(day), predictions.rows([day])
        held_key, held = state.vector_keys.get(day, (None, 0))
        if rows and (held_key, held) != (key, rows):
            missing = f"{rows} vectors of scoring {key}; there are {held} of {held_key}"
            gaps.append({"day": day, "missing": missing})
    return gaps


@dg.asset_check(
    asset="fraud_predictions", blocking=True, additional_deps=["transaction_embeddings"]
)
def scores_and_vectors_are_of_one_pass(
    context: dg.AssetCheckExecutionContext,
    warehouse: WarehouseResource,
    vectors: LanceDBResource,
) -> dg.AssetCheckResult:
    """What a reader gets of a day, scores and vectors, is of one run and one model version."""
    with pipeline_of(warehouse, vectors) as pipeline:
        days, state = days_to_check(context, pipeline), pipeline.state()
        changed = _changed_meanwhile(state, days, [PREDICTIONS])
        predictions = state.snapshot(tables.FRAUD_PREDICTIONS)
        keys = {d: k for d, k in predictions.keys.items() if d in days and d not in changed}
        named = {day: key for day, key in keys.items() if predictions.rows([day])}
        columns = ["transaction_id", "score", "model_version", "day"]
        reader = pipeline.vectors.scan(EMBEDDINGS, columns, valid=named)
        with state.warehouse.connect() as connection:
            predictions.register(connection, predictions.on(sorted(named)))
            connection.register("vectors", reader)
            wrong = connection.sql(sql_text("check_one_pass")).to_arrow_table().to_pylist()
    return result(wrong, "days whose scores and vectors are not of one pass", days, changed)


@dg.asset_check(asset="transaction_embeddings", blocking=True)
def vector_keys_are_unique(
    context: dg.AssetCheckExecutionContext,
    warehouse: WarehouseResource,
    vectors: LanceDBResource,
) -> dg.AssetCheckResult:
    """Of the vectors that count, those that predictions name, there are as many as keys."""
    with pipeline_of(warehouse, vectors) as pipeline:
        state = pipeline.state()
        named = state.snapshot(tables.FRAUD_PREDICTIONS).keys
        valid = [day for day, (key, _) in state.vector_keys.items() if key == named.get(day)]
        changed = _changed_meanwhile(state, valid, [CLEAN]) if valid else set()
        days = sorted(set(valid) - changed)
        counted = [] if len(days) == len(state.vector_keys) else [OneOf("day", days)]
        rows = pipeline.vectors.count(EMBEDDINGS, counted)
        keys = pipeline.vectors.distinct_keys(EMBEDDINGS, counted)
    return dg.AssetCheckResult(
        passed=rows == keys,
        metadata={"rows": rows, "keys": keys, "days_to_be_built_again": len(changed)},
    )


def _newest_day_check(
    name: str, newest: Callable[[State], date | None]
) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=name,
        name="newest_closed_day_is_there",
        description="The newest day that is over was built. Building any old day makes an asset "
        "look fresh; this check does not fall for it.",
    )
    def check(
        context: dg.AssetCheckExecutionContext,
        warehouse: WarehouseResource,
        vectors: LanceDBResource,
        models: ModelStoreResource,
    ) -> dg.AssetCheckResult:
        with pipeline_of(warehouse, vectors, models) as pipeline:
            found = newest(pipeline.state())
        expected = last_closed_day()
        return dg.AssetCheckResult(
            passed=found is not None and found >= expected,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"newest_day": str(found or "none"), "expected": str(expected)},
        )

    return check


def _newest_of(table: Table) -> Callable[[State], date | None]:
    return lambda state: max(state.snapshot(table).by_day, default=None)


NEWEST_DAY_CHECKS = [
    *(
        _newest_day_check(table.name, _newest_of(table))
        for table in (
            tables.RAW_TRANSACTIONS,
            tables.EXCHANGE_RATES,
            tables.CLEAN_TRANSACTIONS,
            tables.FRAUD_LABELS,
            tables.TRANSACTION_FEATURES,
            tables.FRAUD_PREDICTIONS,
            tables.DAILY_RISK_REPORT,
        )
    ),
    _newest_day_check(EMBEDDINGS.name, lambda state: max(state.vector_keys, default=None)),
]
BLOCKING_CHECKS = [
    every_record_is_accounted_for,
    transaction_keys_are_unique,
    features_do_not_look_ahead,
    every_transaction_is_scored,
    scores_and_vectors_are_of_one_pass,
    vector_keys_are_unique,
]
