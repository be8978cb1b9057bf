"""Which version of the fraud model is live: compared with the new one, promoted, rolled back."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa

from batch_assets.errors import BatchAssetsError
from batch_assets.fraud.keys import State
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.fraud.rescoring import days_to_rescore
from batch_assets.fraud.scorer import MODEL, load_scorer
from batch_assets.fraud.tables import FRAUD_PREDICTIONS
from batch_assets.fraud.training_data import labelled_days, labelled_rows
from batch_assets.storage.promotions import Promotion

LEAST_FRAUDS = 20
"""With fewer on the days of a comparison, chance decides which version looks better."""
METRICS = ("average_precision", "card_precision_at_100", "auc")
_KEPT = ["day", "customer_id", "is_fraud"]


def judge(pipeline: Pipeline, version: str) -> dict[str, Any]:
    """Make a candidate live if there is no live version, or if it is better than that.

    Returns:
        The comparison, which is kept beside a candidate: ``version``, ``live`` (the one that was
        live then, or None), ``better``, ``reason``; and, if both were measured, ``first_day``,
        ``last_day``, ``days``, ``rows``, ``frauds``, ``margin``, and ``metrics`` of each of them.
    """
    models = pipeline.models
    while True:
        live = models.live(MODEL)
        comparison = compare(pipeline, version, live)
        if models.state(version, MODEL) == "candidate":
            models.keep_comparison(version, MODEL, comparison)
        if not comparison["better"]:
            return comparison
        if models.promote(version, MODEL, why=comparison["reason"], instead_of=live):
            return comparison


def compare(pipeline: Pipeline, version: str, live: str | None) -> dict[str, Any]:
    """Whether a candidate is better than the live version, and why; see :func:`judge`."""
    found: dict[str, Any] = {
        "version": version,
        "live": live,
        "compared_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if reason := _not_compared(pipeline, version, live):
        return found | {"better": live is None, "reason": reason}
    assert live is not None
    state = pipeline.state()
    days = comparison_days(pipeline, state, [version, live])
    if not days:
        reason = "no day with known labels comes after the days that they were trained on"
        return found | {"better": False, "reason": reason}
    try:
        scored = _score_both(pipeline, state, days, [version, live])
    except BatchAssetsError as error:
        return found | {"better": False, "reason": f"the two cannot be compared: {error}"}
    return found | verdict(scored, version, live, pipeline.settings.promotion_margin)


def _not_compared(pipeline: Pipeline, version: str, live: str | None) -> str | None:
    """Why there is nothing to compare."""
    if live is None:
        return "first model"
    state = pipeline.models.state(version, MODEL)
    if state == "live":
        return "it is the live one"
    if state == "retired":
        return "it was live before: only a person brings it back"
    if _trained_until(pipeline.models.card(version, MODEL)) is None:
        return "its card does not say on which days it was trained, so no day is known to be new"
    return None


def comparison_days(pipeline: Pipeline, state: State, versions: Sequence[str]) -> list[date]:
    """The newest days with labels that none of the versions was trained on, nor days before.

    A live version whose card does not say what it was trained on can only look too good by it.
    """
    cards = [pipeline.models.card(version, MODEL) for version in versions]
    seen = max((_trained_until(card) or date.min for card in cards), default=date.min)
    days = [day for day in labelled_days(pipeline, state) if day > seen]
    return days[-pipeline.settings.comparison_days :]


def _trained_until(card: dict[str, Any]) -> date | None:
    """The last day that training looked at; date.min if at none, None if the card is silent."""
    days = card.get("training_days")
    if isinstance(days, dict):
        days = [days.get("last")]
    if not isinstance(days, list):
        return None
    try:
        return max((date.fromisoformat(day) for day in days), default=date.min)
    except (TypeError, ValueError):
        return None


def _score_both(
    pipeline: Pipeline, state: State, days: Sequence[date], versions: Sequence[str]
) -> dict[str, pa.Table]:
    """Day, customer, label and score of each row, by version; on the CPU, a day at a time."""
    home = pipeline.settings.home
    scorers = {v: load_scorer(pipeline.models, v, home, "cpu", "fp32") for v in versions}
    features = [name for scorer in scorers.values() for name in scorer.features]
    scored: dict[str, list[pa.RecordBatch]] = {version: [] for version in versions}
    for day in days:
        rows = labelled_rows(state, [day], features=features).table.to_batches()
        for version, scorer in scorers.items():
            for batch in scorer.score(rows, _KEPT):
                scored[version].append(batch.select([*_KEPT, "score"]))
    return {version: pa.Table.from_batches(batches) for version, batches in scored.items()}


def verdict(
    scored: Mapping[str, pa.Table], candidate: str, live: str, margin: float
) -> dict[str, Any]:
    """Whether the candidate's scores are better than the live version's of the same rows.

    They are if average precision is higher, by ``margin`` at least, and card precision@100 is
    not lower.

    Args:
        scored: by version, columns ``day``, ``customer_id``, ``is_fraud``, ``score``.

    Returns:
        All of the comparison but for the versions; see :func:`judge`.
    """
    from batch_assets.fraud.evaluation import evaluate

    rows = scored[candidate]
    days = sorted(set(rows["day"].to_pylist()))
    frauds = sum(rows["is_fraud"].to_pylist())
    found: dict[str, Any] = {
        "first_day": str(days[0]),
        "last_day": str(days[-1]),
        "days": len(days),
        "rows": len(rows),
        "frauds": frauds,
        "margin": margin,
    }
    when = f"on {days[0]} to {days[-1]}"
    if frauds < LEAST_FRAUDS:
        reason = f"{frauds} frauds {when} are too few to tell which is better ({LEAST_FRAUDS} do)"
        return found | {"better": False, "reason": reason}
    metrics = {}
    for version in (candidate, live):
        measured = evaluate(scored[version], model_version=version)
        metrics[version] = {name: float(measured[name]) for name in METRICS}
    (new, new_cards), (old, old_cards) = (
        (m["average_precision"], m["card_precision_at_100"]) for m in metrics.values()
    )
    better = False
    if new - old < margin or new <= old:
        reason = f"average precision {new:.4f} {when} is not {margin} above {old:.4f} of {live}"
    elif new_cards < old_cards:
        reason = f"card precision@100 {new_cards:.4f} {when} is below {old_cards:.4f} of {live}"
    else:
        better, reason = True, f"beat {live} by {new - old:.4f} average precision {when}"
    return found | {"metrics": metrics, "better": better, "reason": reason}


def promote_by_hand(pipeline: Pipeline, prefix: str) -> dict[str, Any]:
    """Make the version that begins with ``prefix`` live; returns what :func:`roll_back` does."""
    version = pipeline.models.find(prefix, MODEL)

    def promote() -> str:
        pipeline.models.promote(version, MODEL)
        return version

    return _change(pipeline, promote)


def roll_back(pipeline: Pipeline) -> dict[str, Any]:
    """Make live what was live before.

    Returns:
        ``version`` (live now), ``before`` (live until now, or None), ``days_to_rescore``, and
        ``text``, which says so in lines.
    """
    return _change(pipeline, lambda: pipeline.models.roll_back(MODEL))


def _change(pipeline: Pipeline, change: Callable[[], str]) -> dict[str, Any]:
    promotions = pipeline.models.promotions(MODEL)
    before = promotions[-1].version if promotions else None
    version = change()
    days = days_to_rescore(pipeline)
    outdated = pipeline.stale_days(list(pipeline.state().snapshot(FRAUD_PREDICTIONS).by_day))
    text = [f"{version} is live already" if version == before else f"{version} is live"]
    if before not in (None, version):
        text.append(f"{before} was live before")
    if days:
        text.append(
            f"another version scored {len(days)} days, {days[0]} to {days[-1]}: the sensor "
            "model_promoted has them scored again while `batch-assets dev` runs; or do it now: "
            f"batch-assets run --from {days[0]} --to {days[-1]}"
        )
    if others := len(outdated) - len(days):
        text.append(
            f"{others} other days are out of date: `batch-assets run` builds those you name"
        )
    return {"version": version, "before": before, "days_to_rescore": days, "text": text}


def listed(pipeline: Pipeline) -> list[dict[str, Any]]:
    """A summary of each version, the newest first."""
    return [_summary(pipeline, v) for v in reversed(pipeline.models.versions(MODEL))]


def shown(pipeline: Pipeline, prefix: str) -> dict[str, Any]:
    """Summary, promotions, comparison and card of the version that begins with ``prefix``."""
    models = pipeline.models
    version = models.find(prefix, MODEL)
    return _summary(pipeline, version) | {
        "promotions": [
            {"at": p.at, "why": p.why, "rollback": p.takes_back is not None}
            for p in models.promotions(MODEL)
            if p.version == version
        ],
        "comparison": models.comparison(version, MODEL),
        "card": models.card(version, MODEL),
    }


def _summary(pipeline: Pipeline, version: str) -> dict[str, Any]:
    models = pipeline.models
    card = models.card(version, MODEL)
    days = card.get("training_days")
    comparison = models.comparison(version, MODEL) or {}
    return {
        "version": version,
        "title": card.get("title"),
        "kind": card["kind"],
        "state": models.state(version, MODEL),
        "state_since": _since(version, models.promotions(MODEL), card["created_at"]),
        "created_at": card["created_at"],
        "trained_from": days.get("first") if isinstance(days, dict) else None,
        "trained_to": days.get("last") if isinstance(days, dict) else None,
        "bytes": models.size(version, MODEL),
        **_measured(version, card.get("metrics", {}), comparison),
        "decision": comparison.get("reason"),
    }


def _since(version: str, promotions: Sequence[Promotion], created: str) -> datetime:
    """When a version became what it is: made, live, or replaced by the next."""
    last = max((n for n, p in enumerate(promotions) if p.version == version), default=None)
    if last is None:
        return datetime.fromisoformat(created)
    return promotions[min(last + 1, len(promotions) - 1)].at


def _measured(
    version: str, metrics: Mapping[str, Any], comparison: Mapping[str, Any]
) -> dict[str, Any]:
    """Average precision and AUC on the days of the comparison, else on the validation days."""
    if compared := comparison.get("metrics", {}).get(version):
        found = {name: compared[name] for name in ("average_precision", "auc")}
        return found | {"measured_on": f"{comparison['first_day']} to {comparison['last_day']}"}
    found = {name: metrics.get(f"validation_{name}") for name in ("average_precision", "auc")}
    known = found["average_precision"] is not None
    return found | {"measured_on": "its validation days" if known else None}
