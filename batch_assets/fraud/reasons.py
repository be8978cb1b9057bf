"""Why a transaction was an alert: the features that raised its score, said in words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from batch_assets.fraud.sentences import Facts, sentence, theme

NEGLIGIBLE = 0.05
"""Share of all that raised a score below which a feature is no reason."""


@dataclass(frozen=True)
class Reason:
    """A feature that raised a score.

    Args:
        feature: the one of its windows that did most.
        value: None where it is missing.
        usual: its median in the days that the model was trained on.
        contribution: by how much it raised the logit, its other windows included.
        text: all that in words.
    """

    feature: str
    value: float | None
    usual: float
    contribution: float
    text: str


def reasons(
    features: Sequence[str], contributions: Sequence[float], facts: Facts, top: int
) -> list[Reason]:
    """What raised a score, the most important first; equal ones in the order of the features.

    The windows of one quantity (1, 7, 30 days) are one reason, and so is all that compares the
    amount with what the customer pays else.

    Args:
        contributions: to the logit, one a feature.
        top: the most reasons that are given.
    """
    groups: dict[str, list[tuple[float, str]]] = {}
    for name, contribution in zip(features, contributions, strict=True):
        groups.setdefault(theme(name), []).append((float(contribution), name))
    sums = {group: math.fsum(share for share, _ in members) for group, members in groups.items()}
    raised = {group: total for group, total in sums.items() if total > 0}
    least = NEGLIGIBLE * math.fsum(raised.values())
    chosen = sorted((group for group in raised if raised[group] >= least), key=lambda g: -raised[g])
    return [_reason(groups[group], raised[group], facts) for group in chosen[:top]]


def _reason(members: Sequence[tuple[float, str]], total: float, facts: Facts) -> Reason:
    name = max(members, key=lambda member: member[0])[1]
    usual = facts.usual.get(name, 0.0)
    return Reason(name, facts.number(name), usual, total, sentence(name, facts))
