from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_assets.errors import BatchAssetsError
from batch_assets.fraud.evaluation import (
    card_precision_at_k,
    card_precision_by_day,
    card_precision_ceiling,
    evaluate,
    select_test_days,
)

FIRST = date(2024, 1, 1)


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


def rows(*cells: tuple[int, str]) -> pa.Table:
    days, customers = zip(*cells, strict=True) if cells else ((), ())
    return pa.table(
        {
            "day": pa.array([day(n) for n in days], pa.date32()),
            "customer_id": pa.array(customers, pa.string()),
        }
    )


def scored(*cells: tuple[int, str, bool, float]) -> pa.Table:
    days, customers, frauds, scores = zip(*cells, strict=True)
    table = rows(*zip(days, customers, strict=True)).append_column("is_fraud", [frauds])
    return table.append_column("score", pa.array(scores, pa.float32()))


def kept(transactions: pa.Table, frauds: pa.Table, **changes: int) -> list[tuple[int, str]]:
    """Training on days 0 and 1, a delay of two days, test on days 4 to 6."""
    days = {"train_first": 0, "train_last": 1, "test_first": 4, "test_last": 6, **changes}
    delay = days.pop("delay_days", 2)
    selected = select_test_days(
        transactions,
        frauds,
        delay_days=delay,
        **{name: day(number) for name, number in days.items()},
    )
    pairs = zip(selected["day"].to_pylist(), selected["customer_id"].to_pylist(), strict=True)
    return [((when - FIRST).days, customer) for when, customer in pairs]


EVERYBODY = rows(*((n, customer) for n in range(10) for customer in "abcdef"))


def test_customers_leave_the_test_days_as_their_frauds_become_known() -> None:
    # As in the book's get_train_test_set: known on the k-th test day, from 0, are the frauds of
    # the training days (0 and 1) and of the days up to 1 + k.
    frauds = rows((0, "a"), (1, "b"), (2, "c"), (3, "d"), (4, "e"))
    assert kept(EVERYBODY, frauds) == [
        *((4, customer) for customer in "cdef"),
        *((5, customer) for customer in "def"),
        *((6, customer) for customer in "ef"),
    ]


def test_frauds_before_training_and_of_the_test_days_themselves_are_not_known() -> None:
    frauds = rows((0, "a"), (4, "b"), (5, "c"), (6, "d"))
    assert kept(EVERYBODY, frauds, train_first=1) == [
        (n, customer) for n in (4, 5, 6) for customer in "abcdef"
    ]


def test_a_test_long_after_training_leaves_out_all_that_is_known_by_then() -> None:
    frauds = rows((0, "a"), (3, "b"), (5, "c"), (6, "d"))
    assert kept(EVERYBODY, frauds, test_first=8, test_last=8) == [(8, c) for c in "def"]


def test_nobody_leaves_without_frauds() -> None:
    assert len(kept(EVERYBODY, rows())) == 18


def test_ranges_that_do_not_follow_each_other_are_refused() -> None:
    with pytest.raises(BatchAssetsError, match="first test day is 2024-01-05"):
        kept(EVERYBODY, rows(), test_first=3)
    with pytest.raises(BatchAssetsError, match="a range ends before it begins"):
        kept(EVERYBODY, rows(), test_last=3)
    with pytest.raises(BatchAssetsError, match="negative"):
        kept(EVERYBODY, rows(), delay_days=-1)


def test_a_card_counts_with_its_highest_score_and_leaves_once_found() -> None:
    table = scored(
        (0, "a", False, 0.9),  # a's fraud is another, lower transaction of the day: found
        (0, "a", True, 0.1),
        (0, "b", False, 0.8),
        (0, "c", True, 0.7),  # third, not looked at
        (1, "a", True, 0.9),  # found before: c and d move up
        (1, "c", True, 0.8),
        (1, "d", True, 0.7),
        (1, "e", False, 0.6),
    )
    assert card_precision_by_day(table, k=2) == {day(0): 0.5, day(1): 1.0}
    assert card_precision_at_k(table, k=2) == 0.75


def test_precision_is_a_share_of_k_even_with_fewer_customers() -> None:
    assert card_precision_at_k(scored((0, "a", True, 0.5)), k=100) == 0.01


def test_equal_scores_are_taken_in_the_order_of_customers() -> None:
    table = scored((0, "b", True, 0.5), (0, "a", False, 0.5))
    assert card_precision_at_k(table, k=1) == 0.0
    assert card_precision_at_k(table.take([1, 0]), k=1) == 0.0


def test_the_ceiling_counts_each_customer_once_and_k_a_day() -> None:
    # b can only be found on day 0, so a must wait for day 1: greedily it would be one of two.
    table = scored((0, "a", True, 0.9), (0, "b", True, 0.8), (1, "a", True, 0.9))
    assert card_precision_ceiling(table, k=1) == 1.0
    assert card_precision_ceiling(table, k=2) == 0.5
    assert card_precision_ceiling(scored((0, "a", False, 0.9)), k=1) == 0.0


CELLS = st.tuples(st.integers(0, 3), st.sampled_from("abcdef"), st.booleans(), st.floats(0, 1))


@given(st.lists(CELLS, min_size=1, max_size=30), st.integers(1, 4))
def test_no_score_surpasses_the_ceiling_and_the_label_itself_comes_near(
    cells: list[tuple[int, str, bool, float]], k: int
) -> None:
    table = scored(*cells)
    ceiling = card_precision_ceiling(table, k)
    assert card_precision_at_k(table, k) <= ceiling + 1e-9
    perfect = scored(*((n, customer, fraud, float(fraud)) for n, customer, fraud, _ in cells))
    reached = card_precision_at_k(perfect, k)
    assert reached <= ceiling + 1e-9
    assert (reached == 0) == (ceiling == 0)
    # With room for everybody on every day the label itself is the perfect score.
    assert card_precision_at_k(perfect, 6) == pytest.approx(card_precision_ceiling(table, 6))


def test_the_result_has_exactly_the_promised_keys() -> None:
    table = scored(
        (0, "a", True, 0.9), (0, "b", False, 0.95), (0, "c", False, 0.1), (0, "d", False, 0.2)
    )
    assert evaluate(table, model_version="abc") == {
        "auc": pytest.approx(2 / 3),
        "average_precision": pytest.approx(0.5),
        "card_precision_at_100": 0.01,
        "card_precision_at_100_ceiling": 0.01,
        "test_rows": 4,
        "test_frauds": 1,
        "model_version": "abc",
    }


@pytest.mark.parametrize("label", [True, False])
def test_one_class_alone_cannot_be_measured(label: bool) -> None:
    with pytest.raises(BatchAssetsError, match="one class"):
        evaluate(scored((0, "a", label, 0.9)), model_version="abc")


def test_no_rows_cannot_be_measured() -> None:
    empty = scored((0, "a", True, 0.9)).slice(0, 0)
    with pytest.raises(BatchAssetsError, match="one class"):
        evaluate(empty, model_version="abc")
    with pytest.raises(BatchAssetsError, match="no scored rows"):
        card_precision_ceiling(empty)


def test_scores_may_be_of_any_float_type() -> None:
    table = scored((0, "a", True, 0.9), (0, "b", False, 0.5))
    wide = table.set_column(3, "score", pa.array(np.array([0.9, 0.5])))
    assert evaluate(wide, model_version="a") == evaluate(table, model_version="a")


def test_the_book_s_own_days_leave_the_rows_and_cards_that_its_code_leaves(handbook: Path) -> None:
    names = ["tx_datetime", "customer_id", "tx_fraud"]
    days = [date(2018, 7, 11) + timedelta(days=n) for n in range(21)]
    raw = pa.concat_tables([pq.read_table(handbook / f"{d}.parquet", columns=names) for d in days])
    table = pa.table(
        {
            "day": raw["tx_datetime"].cast(pa.timestamp("us")).cast(pa.date32(), safe=False),
            "customer_id": raw["customer_id"],
            "is_fraud": pc.equal(raw["tx_fraud"], 1),
        }
    )
    selected = select_test_days(
        table,
        table.filter(table["is_fraud"]),
        train_first=date(2018, 7, 11),
        train_last=date(2018, 7, 17),
        delay_days=7,
        test_first=date(2018, 7, 25),
        test_last=date(2018, 7, 31),
    )
    assert len(selected) == 58_505
    assert pc.sum(selected["is_fraud"]).as_py() == 374
