"""Which days are out of date by nothing but the version of the model."""

from collections.abc import Sequence
from datetime import date

from batch_assets.fraud import tables
from batch_assets.fraud.keys import steps_of
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.fraud.scorer import MODEL


def outdated_by_model(pipeline: Pipeline, days: Sequence[date]) -> list[date]:
    """Of these days those that were up to date while some other version was live."""
    state = pipeline.state()
    steps = steps_of(state)
    rest = {d for step in steps for d in state.stale(step, days, settled=True)}
    found: set[date] = set()
    versions = {promotion.version for promotion in pipeline.models.promotions(MODEL)}
    for version in versions - {state.model_version}:
        before = state.under(version)
        still = {d for step in steps for d in before.stale(step, rest, settled=True)}
        found |= rest - still
        rest = still
    return sorted(found)


def days_to_rescore(pipeline: Pipeline) -> list[date]:
    """Those among the newest ``rescore_days`` scored days."""
    scored = sorted(pipeline.warehouse.snapshot(tables.FRAUD_PREDICTIONS).by_day)
    bound = pipeline.settings.rescore_days
    return outdated_by_model(pipeline, scored[-bound:] if bound else [])
