"""A feature's value in words that an investigator understands.

``_SENTENCES`` is the one place that says how a feature is put into words, and which of them are
about the same thing. A feature that it does not know, of a model or a SQL file of one's own, is
named with its value and what is usual.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from batch_assets.fraud.features import FEATURES, LABEL_DELAY_DAYS, LOOK_BACK_DAYS, WINDOW_DAYS

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


def sentence(name: str, facts: Facts) -> str:
    """A feature's value in words, beside what is usual."""
    value = facts.number(name)
    if value is not None and math.isfinite(value):
        for pattern, words, _ in _SENTENCES:
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


def theme(name: str) -> str:
    """What a feature is about, so that one thing is said once."""
    themes = (theme for pattern, _, theme in _SENTENCES if theme and pattern.fullmatch(name))
    return next(themes, _WINDOW.sub("", name))


def _subject(name: str) -> str:
    described = _DESCRIPTIONS.get(name, "").rstrip(".")
    return described or " ".join(name.replace("_", " ").split())


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
        return f"{text}, {_times(amount / before)} this customer's usual {before:,.2f}"
    return f"{text}; this customer's usual is {before:,.2f}"


def _compared(to: str) -> "Words":
    """The amount as a multiple of something, which is the feature."""

    def words(facts: Facts, name: str, *window: str) -> str:
        amount = facts.number("amount")
        start = "amount" if amount is None else f"amount {facts.money(amount)}"
        ratio = _times(facts.number(name) or 0.0)
        return f"{start}, {ratio} {to.format(*map(_days, window))}"

    return words


def _times(ratio: float) -> str:
    return f"{ratio:,.0f} times" if ratio >= 10 else f"{ratio:.1f} times"


def _deviation(facts: Facts, name: str, window: str) -> str:
    amount, deviations = facts.number("amount"), facts.number(name) or 0.0
    start = "amount" if amount is None else f"amount {facts.money(amount)}"
    where = "below" if deviations < 0 else "above"
    return (
        f"{start}, {abs(deviations):,.1f} standard deviations {where} the mean of this customer's "
        f"others of {_days(window)}"
    )


def _spread(facts: Facts, name: str, window: str) -> str:
    spread, usual = facts.money(facts.number(name) or 0.0), facts.than_usual(name, facts.money)
    return f"standard deviation of this customer's others of {_days(window)}: {spread}{usual}"


def _peak(facts: Facts, name: str, window: str) -> str:
    return (
        f"this customer's largest earlier payment of {_days(window)} was "
        f"{_times(facts.number(name) or 0.0)} the mean of the others of 30 days"
    )


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


def _since_fraud(whose: str) -> "Words":
    def words(facts: Facts, name: str) -> str:
        days = facts.number(name) or 0.0
        if days >= LOOK_BACK_DAYS:
            return _no_fraud(whose)
        return f"the last known fraud {whose} was {_span(days)} ago"

    return words


def _fraud_count(whose: str) -> "Words":
    def words(facts: Facts, name: str, window: str) -> str:
        if not (frauds := facts.count(name)):
            return _no_fraud(whose)
        return f"{_many(frauds, 'known fraud')} {whose} {_ago(window)}"

    return words


def _usual_frauds(facts: Facts, name: str, window: str) -> str:
    frauds = _many(facts.count(name), "known fraud")
    return f"{frauds} {_AT} {_ago(window)} of no more than their customers usually pay"


def _fraud_excess(facts: Facts, name: str, window: str) -> str:
    if not (excess := facts.number(name)):
        return _no_fraud(_AT)
    return f"known frauds {_AT} {_ago(window)} were {_times(excess)} what their customers pay else"


def _clean(facts: Facts, name: str) -> str:
    days = facts.number(name) or 0.0
    if days >= LOOK_BACK_DAYS:
        return _no_fraud(_AT)
    if not days:
        return f"the newest payment {_AT} that is {LABEL_DELAY_DAYS} days old was a fraud"
    return f"{_span(days)} of payments without a known fraud {_AT} after the last one"


def _run(facts: Facts, name: str) -> str:
    if not (days := facts.count(name)):
        return f"the known frauds {_AT}, if any, were followed by other payments"
    return f"nothing but known frauds {_AT} {days:,} to {LABEL_DELAY_DAYS + 1} days ago"


def _clean_day(facts: Facts, name: str) -> str:
    if not (days := facts.count(name)):
        return f"the known frauds {_AT}, if any, were followed by other payments"
    return f"the last payment {_AT} that is not known as fraud was {_many(days, 'day')} ago or more"


def _no_fraud(whose: str) -> str:
    return f"no known fraud {whose} {_ago(str(max(WINDOW_DAYS)))}"


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


def _span(days: float) -> str:
    """A time in the unit that suits it."""
    for unit, in_a_day in (("day", 1), ("hour", 24)):
        if days * in_a_day >= 2:
            return _many(round(days * in_a_day), unit)
    return _many(round(days * 24 * 60), "minute")


Words = Callable[..., str]
_AT, _OF = "at this terminal", "of this customer"
_AMOUNT, _FRAUDS, _RUN = "amount", "frauds at the terminal", "run of frauds"
_OTHERS = "the mean of this customer's others of {}"
_SENTENCES: tuple[tuple[re.Pattern[str], Words, str | None], ...] = tuple(
    (re.compile(pattern), words, theme)
    for pattern, words, theme in (
        (r"amount", _amount, _AMOUNT),
        (r"during_night", _night, None),
        (r"during_weekend", _weekend, None),
        (r"customer_tx_count_(\d+)d", _customer_count, None),
        (r"customer_amount_mean_(\d+)d", _customer_mean, None),
        (r"customer_amount_ratio_(\d+)d", _compared(_OTHERS), _AMOUNT),
        (
            r"customer_amount_ratio_before_(\d+)d",
            _compared("this customer's mean of 30 days without the last {}"),
            _AMOUNT,
        ),
        (r"customer_amount_deviation_(\d+)d", _deviation, _AMOUNT),
        (
            r"customer_max_ratio_(\d+)d",
            _compared("this customer's largest earlier one of {}"),
            _AMOUNT,
        ),
        (r"customer_amount_spread_(\d+)d", _spread, None),
        (r"customer_peak_(\d+)d", _peak, None),
        (r"customer_fraud_count_(\d+)d", _fraud_count(_OF), None),
        (r"customer_days_since_fraud", _since_fraud(_OF), None),
        (r"terminal_tx_count_(\d+)d", _terminal_count, None),
        (r"terminal_fraud_share_(\d+)d", _terminal_share, _FRAUDS),
        (r"terminal_fraud_count_(\d+)d", _fraud_count(_AT), _FRAUDS),
        (r"terminal_usual_fraud_count_(\d+)d", _usual_frauds, None),
        (r"terminal_fraud_excess_(\d+)d", _fraud_excess, None),
        (r"terminal_days_since_fraud", _since_fraud(_AT), None),
        (r"terminal_days_clean", _clean, None),
        (r"terminal_fraud_run_days", _run, _RUN),
        (r"terminal_fraud_run_days_at_most", _clean_day, _RUN),
    )
)
