"""Quality of scores by the protocol of the Fraud Detection Handbook.

Reproducible Machine Learning for Credit Card Fraud Detection, Le Borgne et al. 2022, chapters 3
(get_train_test_set) and 4 (card precision top-k). Tables in, numbers out.
"""

from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_assets.errors import BatchAssetsError

CARDS_A_DAY = 100


def select_test_days(
    transactions: pa.Table,
    frauds: pa.Table,
    *,
    train_first: date,
    train_last: date,
    delay_days: int,
    test_first: date,
    test_last: date,
) -> pa.Table:
    """The rows of the test days (first and last included) but those of customers known by then.

    A customer is known as compromised on a test day if a transaction of theirs from
    ``train_first`` on was fraudulent and lies more than ``delay_days`` days before that day: when
    the test follows training and delay at once, as in the book, the k-th test day (from 0) is
    without customers who had a fraud in the training days or in the first k days after them.

    ``transactions`` has ``day`` (date32) and ``customer_id`` beside any other columns, ``frauds``
    the same two for each known fraud; other days do not matter. Raises BatchAssetsError when the
    ranges do not follow each other.
    """
    if not (train_first <= train_last and test_first <= test_last and delay_days >= 0):
        raise BatchAssetsError(
            f"Cannot train on {train_first}:{train_last} and test on {test_first}:{test_last} "
            f"with a delay of {delay_days} days: a range ends before it begins, or the delay is "
            "negative. Give the first day of each range first."
        )
    earliest = train_last + timedelta(days=delay_days + 1)
    if test_first < earliest:
        raise BatchAssetsError(
            f"Testing from {test_first} would use labels that are not known yet: after training "
            f"until {train_last} and a delay of {delay_days} days the first test day is {earliest}."
        )
    first_fraud = frauds.filter(pc.field("day") >= train_first)
    first_fraud = first_fraud.group_by("customer_id").aggregate([("day", "min")])
    kept = []
    for day in _days_between(test_first, test_last):
        cutoff = day - timedelta(days=delay_days + 1)
        known = first_fraud.filter(pc.field("day_min") <= cutoff)["customer_id"].combine_chunks()
        of_day = transactions.filter(pc.field("day") == day)
        kept.append(of_day.filter(pc.invert(pc.is_in(of_day["customer_id"], value_set=known))))
    return pa.concat_tables(kept)


def evaluate(scored: pa.Table, *, model_version: str) -> dict[str, float | int | str]:
    """AUC, average precision and card precision@100 of scored test rows, as select_test_days gives.

    ``scored`` has ``day`` (date32), ``customer_id``, ``is_fraud`` (bool) and ``score``. Raises
    BatchAssetsError when the rows hold no fraud or nothing but frauds.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    labels = np.asarray(scored["is_fraud"]).astype(bool)
    scores = np.asarray(scored["score"])
    frauds = int(labels.sum())
    if frauds in (0, len(labels)):
        raise BatchAssetsError(
            f"The {len(labels)} test rows hold {frauds} frauds; quality cannot be told from "
            "rows of one class. Choose more test days, or days whose labels are known."
        )
    return {
        "auc": float(roc_auc_score(labels, scores)),
        "average_precision": float(average_precision_score(labels, scores)),
        "card_precision_at_100": card_precision_at_k(scored, CARDS_A_DAY),
        "card_precision_at_100_ceiling": card_precision_ceiling(scored, CARDS_A_DAY),
        "test_rows": len(labels),
        "test_frauds": frauds,
        "model_version": model_version,
    }


def card_precision_at_k(scored: pa.Table, k: int = CARDS_A_DAY) -> float:
    """Mean over the days of ``card_precision_by_day``."""
    by_day = card_precision_by_day(scored, k)
    return sum(by_day.values()) / len(by_day)


def card_precision_by_day(scored: pa.Table, k: int = CARDS_A_DAY) -> dict[date, float]:
    """The share of compromised customers among the k with the highest scores, for each day.

    A customer's score is the highest of the day, and they are compromised if any transaction of
    that day is fraudulent. Customers found on one day are not looked at on the later ones. Equal
    scores are taken in the order of customer_id. It is a share of k even when a day has fewer
    customers. ``scored`` as for ``evaluate``; days without rows do not count.
    """
    found: set[object] = set()
    result: dict[date, float] = {}
    for day, cards in _cards_by_day(scored).items():
        open_cards = [card for card in cards if card["customer_id"] not in found]
        new = {card["customer_id"] for card in open_cards[:k] if card["is_fraud_max"]}
        found |= new
        result[day] = len(new) / k
    return result


def card_precision_ceiling(scored: pa.Table, k: int = CARDS_A_DAY) -> float:
    """The card precision that no score can surpass on these days, mean over the days.

    Each compromised customer counts on one of the days on which they are, at most k a day: the
    largest flow from customers to days.
    """
    from scipy.sparse import csr_array  # type: ignore[import-untyped]
    from scipy.sparse.csgraph import maximum_flow  # type: ignore[import-untyped]

    cards = _cards_by_day(scored)
    numbers: dict[object, int] = {}
    edges: list[tuple[int, int, int]] = []
    source, sink = 0, 1
    for place, of_day in enumerate(cards.values(), start=2):
        edges.append((place, sink, k))
        for card in of_day:
            if card["is_fraud_max"]:
                number = numbers.setdefault(card["customer_id"], 2 + len(cards) + len(numbers))
                edges.append((number, place, 1))
    edges += [(source, number, 1) for number in numbers.values()]
    size = 2 + len(cards) + len(numbers)
    start, end, capacity = np.array(edges, dtype=np.int32).T
    graph = csr_array((capacity, (start, end)), shape=(size, size))
    return float(maximum_flow(graph, source, sink).flow_value) / (k * len(cards))


def _cards_by_day(scored: pa.Table) -> dict[date, list[dict[str, object]]]:
    """For each day its customers, the highest score first, with score_max and is_fraud_max."""
    if not len(scored):
        raise BatchAssetsError("There are no scored rows to measure. Choose days that have some.")
    cards = scored.group_by(["day", "customer_id"]).aggregate(
        [("score", "max"), ("is_fraud", "max")]
    )
    cards = cards.sort_by(
        [("day", "ascending"), ("score_max", "descending"), ("customer_id", "ascending")]
    )
    by_day: dict[date, list[dict[str, object]]] = {}
    for card in cards.to_pylist():
        by_day.setdefault(card["day"], []).append(card)
    return by_day


def _days_between(first: date, last: date) -> list[date]:
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]
