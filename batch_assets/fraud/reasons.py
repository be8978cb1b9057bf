"""Why a transaction was an alert, in words that an investigator understands.

``_SENTENCES`` is the one place that says how a feature is put into words. A feature that it does
not know, of a model or a SQL file of one's own, is named with its value and what is usual.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from batch_assets.fraud.features import FEATURES, LABEL_DELAY_DAYS

NEGLIGIBLE = 0.05
"""Share of all that raised a score below which a feature is no reason."""

_DESCRIPTIONS = {feature.name: feature.description for feature in FEATURES}
_WINDOW = re.compile(r"_(\d+)d$")


@dataclass(frozen=True)
class Facts:
    """What is known of a transaction, and what is usual.

    Args:
        values: column of ``transaction_features`` -> value, perhaps None or NaN.
        usual: feature -> its median in the days that the model was trained on.
        currency: of amounts.
    """

    values: Mapping[str, Any]
    usual: Mapping[str, float] = field(default_factory=dict)
    currency: str = "EUR"

    def number(self, name: str) -> float | None:
        """A value, None where it is missing."""
        value = self.values.get(name)
        return None if value is None or math.isnan(float(value)) else float(value)

    def count(self, name: str) -> int | None:
        """A value that counts something."""
        value = self.number(name)
        return None if value is None or math.isinf(value) else round(value)

    def money(self, value: float) -> str:
        return f"{value:,.2f} {self.currency}"

    def than_usual(self, name: str, show: Callable[[float], str] | None = None) -> str:
        """What is usual, in brackets; nothing where that is not known."""
        usual = self.usual.get(name)
        return "" if usual is None else f" (usual: {(show or shown)(usual)})"


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

    The windows of one quantity (1, 7, 30 days) are one reason.

    Args:
        contributions: to the logit, one a feature.
        top: the most reasons that are given.
    """
    groups: dict[str, list[tuple[float, str]]] = {}
    for name, contribution in zip(features, contributions, strict=True):
        groups.setdefault(_WINDOW.sub("", name), []).append((float(contribution), name))
    sums = {group: math.fsum(share for share, _ in members) for group, members in groups.items()}
    raised = {group: total for group, total in sums.items() if total > 0}
    least = NEGLIGIBLE * math.fsum(raised.values())
    chosen = sorted((group for group in raised if raised[group] >= least), key=lambda g: -raised[g])
    return [_reason(groups[group], raised[group], facts) for group in chosen[:top]]


def sentence(name: str, facts: Facts) -> str:
    """A feature's value in words, beside what is usual."""
    value = facts.number(name)
    if value is not None and math.isfinite(value):
        for pattern, words in _SENTENCES:
            if match := pattern.fullmatch(name):
                return words(facts, name, *match.groups())
    known = "not known" if value is None else shown(value)
    return f"{_subject(name)}: {known}{facts.than_usual(name)}"


def shown(value: float) -> str:
    """A number of any size, short enough to read."""
    if not math.isfinite(value):
        return str(value)
    if value == round(value):
        return f"{value:,.0f}"
    return f"{value:,.2f}" if abs(value) >= 1 else f"{value:.3g}"


def _reason(members: Sequence[tuple[float, str]], total: float, facts: Facts) -> Reason:
    name = max(members, key=lambda member: member[0])[1]
    usual = facts.usual.get(name, 0.0)
    return Reason(name, facts.number(name), usual, total, sentence(name, facts))


def _subject(name: str) -> str:
    described = _DESCRIPTIONS.get(name, "").rstrip(".")
    return described or name.replace("_", " ")


def _amount(facts: Facts, name: str) -> str:
    amount, seen = facts.number(name) or 0.0, facts.count("customer_tx_count_30d")
    text, mean = f"amount {facts.money(amount)}", facts.number("customer_amount_mean_30d")
    if seen == 1:
        return f"{text}, this customer's first payment in 30 days" + facts.than_usual(
            name, facts.money
        )
    if not seen or mean is None:
        return text + facts.than_usual(name, facts.money)
    before = (mean * seen - amount) / (seen - 1)  # the mean has this payment in it
    if before > 0 and amount >= 1.5 * before:
        times = amount / before
        text += f", {times:,.1f} times" if times < 10 else f", {times:,.0f} times"
        return f"{text} this customer's usual {before:,.2f}"
    return f"{text}; this customer's usual is {before:,.2f}"


def _customer_count(facts: Facts, name: str, window: str) -> str:
    count = facts.count(name)
    return f"{_many(count, 'payment')} of this customer in {_days(window)}{facts.than_usual(name)}"


def _customer_mean(facts: Facts, name: str, window: str) -> str:
    mean = facts.money(facts.number(name) or 0.0)
    usual = facts.than_usual(name, facts.money)
    return f"this customer's payments of {_days(window)} are {mean} on average{usual}"


def _terminal_count(facts: Facts, name: str, window: str) -> str:
    count = facts.count(name)
    return f"{_many(count, 'payment')} at this terminal {_ago(window)}{facts.than_usual(name)}"


def _terminal_share(facts: Facts, name: str, window: str) -> str:
    share, seen = facts.number(name) or 0.0, facts.count(f"terminal_tx_count_{window}d")
    if not seen:
        known = f"{share:.0%} of the payments at this terminal {_ago(window)} were frauds"
        return known if seen is None else f"no payment at this terminal {_ago(window)}"
    if share == 0:
        return f"none of {_many(seen, 'payment')} at this terminal {_ago(window)} is known as fraud"
    frauds = round(share * seen)
    were = "was a fraud" if frauds == 1 else "were frauds"
    return f"{frauds:,} of {_many(seen, 'payment')} at this terminal {_ago(window)} {were}"


def _night(facts: Facts, name: str) -> str:
    return "at night (00:00 to 06:59 local time)" if facts.number(name) else "by day (from 07:00)"


def _weekend(facts: Facts, name: str) -> str:
    return "on a weekend" if facts.number(name) else "on a weekday"


def _ago(window: str) -> str:
    return f"{LABEL_DELAY_DAYS} to {LABEL_DELAY_DAYS + int(window)} days ago"


def _days(window: str) -> str:
    return "24 hours" if window == "1" else f"{window} days"


def _many(count: int | None, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


_SENTENCES: tuple[tuple[re.Pattern[str], Callable[..., str]], ...] = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (r"amount", _amount),
        (r"during_night", _night),
        (r"during_weekend", _weekend),
        (r"customer_tx_count_(\d+)d", _customer_count),
        (r"customer_amount_mean_(\d+)d", _customer_mean),
        (r"terminal_tx_count_(\d+)d", _terminal_count),
        (r"terminal_fraud_share_(\d+)d", _terminal_share),
    )
)
