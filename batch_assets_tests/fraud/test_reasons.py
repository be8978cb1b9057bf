"""Reasons are sentences that an investigator understands, for whatever feature a model reads."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_assets.fraud.features import FEATURES
from batch_assets.fraud.reasons import reasons
from batch_assets.fraud.sentences import Facts, sentence

USUAL = {feature.name: 1.0 for feature in FEATURES}
VALUES = st.one_of(
    st.none(),
    st.sampled_from([0, 1, 2, 7, math.nan, math.inf, -math.inf]),
    st.floats(-1e9, 1e12),
)


def facts(**values: Any) -> Facts:
    return Facts(values, USUAL, "EUR")


@pytest.mark.parametrize("feature", [f.name for f in FEATURES])
@given(values=st.fixed_dictionaries({f.name: VALUES for f in FEATURES}))
def test_every_feature_has_a_sentence_for_every_value(feature: str, values: dict[str, Any]) -> None:
    text = sentence(feature, facts(**values))
    assert text.strip() == text
    assert 5 < len(text) < 300
    assert feature not in text or feature == "amount"  # names of columns are for machines


@pytest.mark.parametrize("feature", [f.name for f in FEATURES])
def test_the_value_is_in_the_sentence(feature: str) -> None:
    values = {f.name: 10.0 for f in FEATURES} | {feature: 8731.0}
    one, other = (sentence(feature, facts(**values | {feature: v})) for v in (8731.0, 0.0))
    assert one != other


def test_an_amount_is_compared_with_the_other_payments_of_the_customer() -> None:
    row = {"amount": 2314.2, "customer_tx_count_30d": 11}
    row["customer_amount_mean_30d"] = (2314.2 + 10 * 190.1) / 11
    assert sentence("amount", facts(**row)) == (
        "amount 2,314.20 EUR, 12 times this customer's usual 190.10"
    )
    row |= {"amount": 190.1, "customer_amount_mean_30d": 190.1}
    assert sentence("amount", facts(**row)) == (
        "amount 190.10 EUR; this customer's usual is 190.10"
    )
    row |= {"customer_tx_count_30d": 1}
    assert sentence("amount", facts(**row)) == (
        "amount 190.10 EUR, this customer's first payment in 30 days (usual: 1.00 EUR)"
    )
    assert sentence("amount", facts(amount=5.0)) == "amount 5.00 EUR (usual: 1.00 EUR)"


def test_a_share_of_frauds_is_told_in_numbers_of_payments() -> None:
    row = {"terminal_fraud_share_7d": 3 / 7, "terminal_tx_count_7d": 7}
    assert sentence("terminal_fraud_share_7d", facts(**row)) == (
        "3 of 7 payments at this terminal 7 to 14 days ago were frauds"
    )
    row = {"terminal_fraud_share_1d": 1.0, "terminal_tx_count_1d": 1}
    assert sentence("terminal_fraud_share_1d", facts(**row)) == (
        "1 of 1 payment at this terminal 7 to 8 days ago was a fraud"
    )
    row = {"terminal_fraud_share_1d": 0.0, "terminal_tx_count_1d": 0}
    assert sentence("terminal_fraud_share_1d", facts(**row)) == (
        "no payment at this terminal 7 to 8 days ago"
    )


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        (
            "customer_amount_ratio_7d",
            12.04,
            "amount 90.00 EUR, 12 times the mean of this customer's others of 7 days",
        ),
        (
            "customer_amount_ratio_before_7d",
            0.5,
            "amount 90.00 EUR, 0.5 times this customer's mean of 30 days without the last 7 days",
        ),
        (
            "customer_amount_deviation_30d",
            -1.5,
            "amount 90.00 EUR, 1.5 standard deviations below the mean of this customer's others "
            "of 30 days",
        ),
        (
            "terminal_fraud_run_days",
            21,
            "nothing but known frauds at this terminal 21 to 8 days ago",
        ),
        (
            "terminal_fraud_run_days_at_most",
            0,
            "the known frauds at this terminal, if any, were followed by other payments",
        ),
        ("terminal_days_since_fraud", 8.2, "the last known fraud at this terminal was 8 days ago"),
        ("terminal_fraud_count_30d", 1, "1 known fraud at this terminal 7 to 37 days ago"),
        ("customer_fraud_count_30d", 0, "no known fraud of this customer 7 to 37 days ago"),
        (
            "terminal_fraud_excess_30d",
            5.25,
            "known frauds at this terminal 7 to 37 days ago were 5.2 times what their customers "
            "pay else",
        ),
    ],
)
def test_what_a_feature_may_mean_is_told_in_words(name: str, value: float, text: str) -> None:
    assert sentence(name, Facts({"amount": 90.0, name: value})) == text


def test_all_that_compares_the_amount_is_one_reason() -> None:
    names = ["amount", "customer_amount_ratio_30d", "customer_max_ratio_30d", "during_night"]
    known = facts(amount=9.0, customer_amount_ratio_30d=3.0, customer_max_ratio_30d=2.0)
    found = reasons(names, [1.0, 2.0, 0.5, -1.0], known, top=5)
    assert [(r.feature, r.contribution) for r in found] == [("customer_amount_ratio_30d", 3.5)]


def test_an_unknown_feature_is_named_with_value_and_what_is_usual() -> None:
    known = Facts({"new_device_risk": 0.5}, {"new_device_risk": 0.01})
    assert sentence("new_device_risk", known) == "new device risk: 0.5 (usual: 0.01)"
    assert sentence("new_device_risk", Facts({})) == "new device risk: not known"


def test_reasons_are_what_raised_the_score_windows_of_one_quantity_together() -> None:
    names = ["amount", "terminal_fraud_share_1d", "terminal_fraud_share_7d", "during_night", "b"]
    values = facts(amount=9.0, terminal_fraud_share_7d=0.5, terminal_tx_count_7d=2, during_night=1)
    found = reasons(names, [1.0, 0.4, 0.9, -2.0, 0.001], values, top=5)
    assert [r.feature for r in found] == ["terminal_fraud_share_7d", "amount"]
    assert [r.contribution for r in found] == pytest.approx([1.3, 1.0])
    assert found[0].value == 0.5
    assert found[0].text == "1 of 2 payments at this terminal 7 to 14 days ago was a fraud"
    assert [r.feature for r in reasons(names, [1, 0, 3, 2, 0], values, top=2)] == [
        "terminal_fraud_share_7d",
        "during_night",
    ]


def test_reasons_that_weigh_the_same_stand_in_the_order_of_the_features() -> None:
    for names in (["b", "a", "c"], ["c", "b", "a"]):
        found = reasons(names, [1.0, 1.0, 1.0], facts(a=1, b=1, c=1), top=3)
        assert [r.feature for r in found] == names


def test_nothing_raised_a_score_that_is_below_usual() -> None:
    assert reasons(["a", "b"], [-1.0, 0.0], facts(a=1, b=1), top=3) == []
