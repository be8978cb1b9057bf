"""What a scorer would reach that knows how the public data were made, but not what comes later.

The Fraud Detection Handbook (chapter 3, "Transaction data simulator") says how its data were
simulated. Knowing that, the probability of a fraud given all that had happened and all labels that
had arrived by then can be computed, and no order of the rows is better in expectation. The platform
knows nothing of this; it is what its figures are to be compared with.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

DELAY = 7
LARGEST_GENUINE = 220.0
TERMINAL_RATE, TERMINAL_DAYS = 2 / 10_000, 28
CUSTOMER_RATE, CUSTOMER_DAYS = 3 / 5_000, 14
RAISED_SHARE, RAISED_TIMES = 1 / 3, 5.0

Columns = Mapping[str, np.ndarray]


def best_scores(folder: Path) -> "pa.Table":
    """``transaction_id`` (text) and ``score`` of all rows of the handbook's folder."""
    import duckdb
    import pyarrow as pa

    with duckdb.connect() as connection:
        rows = connection.sql(
            "SELECT *, datediff('day', min(tx_datetime) OVER (), tx_datetime) AS number "
            f"FROM read_parquet('{folder}/????-??-??.parquet') ORDER BY tx_datetime, transaction_id"
        ).fetchnumpy()
    by_amount, by_customer = _amount_signs(rows)
    by_terminal = _terminal_signs(rows, 1 - (1 - by_amount) * (1 - by_customer))
    score = 1 - (1 - by_amount) * (1 - by_customer) * (1 - by_terminal)
    return pa.table(
        {"transaction_id": pa.array(rows["transaction_id"]).cast("string"), "score": score}
    )


def _amount_signs(rows: Columns) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that a row is fraud for its amount alone, and of a compromised customer.

    Genuine amounts are normal around the customer's mean with half of it as deviation, and anew
    uniform up to twice the mean where that is negative. The mean is that of all their genuine rows,
    later ones too: the only thing here that is known with hindsight.
    """
    customer, amount = rows["customer_id"].astype(int), rows["tx_amount"]
    genuine = np.isin(rows["tx_fraud_scenario"], (0, 2))
    count = np.bincount(customer[genuine], minlength=customer.max() + 1)
    sums = np.bincount(customer[genuine], amount[genuine], minlength=customer.max() + 1)
    mean = np.maximum(sums / np.maximum(count, 1), 1e-2)[customer]
    usual = _density(amount, mean)
    raised = _density(amount / RAISED_TIMES, mean) / RAISED_TIMES
    large = amount > LARGEST_GENUINE
    mixed = RAISED_SHARE * raised + (1 - RAISED_SHARE) * usual
    unlabelled = np.where(large, 0.0, np.log(mixed / usual))
    # A known fraud that neither amount nor customer explains says nothing of the customer.
    labelled = np.where(
        rows["tx_fraud"] == 1,
        np.where((raised > usual) & ~large, np.log(RAISED_SHARE * raised / 1e-6), 0.0),
        np.log(1 - RAISED_SHARE),
    )
    inside = _compromised(
        customer, rows["number"], unlabelled, labelled, CUSTOMER_RATE, CUSTOMER_DAYS
    )
    fraud = inside * RAISED_SHARE * raised
    by_customer = np.where(large, 0.0, fraud / (inside * mixed + (1 - inside) * usual))
    return large.astype(float), by_customer


def _terminal_signs(rows: Columns, otherwise: np.ndarray) -> np.ndarray:
    """Probability that the terminal is compromised; ``otherwise``, that the row is fraud if not."""
    fraud = rows["tx_fraud"] == 1
    other = np.clip(otherwise, 1e-5, 1 - 1e-5)
    labelled = np.where(fraud, -np.log(other), -60.0)
    nothing = np.zeros(len(fraud))
    terminal = rows["terminal_id"].astype(int)
    return _compromised(terminal, rows["number"], nothing, labelled, TERMINAL_RATE, TERMINAL_DAYS)


def _density(amount: np.ndarray, mean: np.ndarray) -> np.ndarray:
    from scipy.stats import norm  # type: ignore[import-untyped]

    again = norm.cdf(-2.0) * (amount < 2 * mean) / (2 * mean)
    return np.asarray(norm.pdf(amount, mean, mean / 2) + again + 1e-300)


def _compromised(
    key: np.ndarray,
    day: np.ndarray,
    unlabelled: np.ndarray,
    labelled: np.ndarray,
    rate: float,
    length: int,
) -> np.ndarray:
    """Probability, for each row in order of time, that its key is compromised, given what is known.

    A hidden Markov model over days, its state the days that are left (0: not compromised); each day
    a key is compromised anew, for ``length`` days, with probability ``rate``. The log likelihood
    ratios of rows count with label from ``DELAY`` days on, without it before.
    """
    days = int(day.max()) + 1
    evidence = np.zeros((2, days, int(key.max()) + 1))
    for place, ratio in enumerate((unlabelled, labelled)):
        np.add.at(evidence[place], (day, key), ratio)
    settled = np.zeros((evidence.shape[2], length + 1))
    settled[:, 0] = 1.0
    odds = np.empty((days, evidence.shape[2]))
    for today in range(days):
        if today >= DELAY:
            settled = _seen(_next_day(settled, rate), evidence[1, today - DELAY])
        now = settled
        for recent in range(max(0, today - DELAY + 1), today):
            now = _seen(_next_day(now, rate), evidence[0, recent])
        now = _next_day(now, rate)
        odds[today] = np.log(now[:, 1:].sum(1)) - np.log(now[:, 0])
    earlier = _earlier_that_day(key, day, unlabelled)
    return np.asarray(1 / (1 + np.exp(-np.clip(odds[day, key] + earlier, -700, 700))))


def _next_day(state: np.ndarray, rate: float) -> np.ndarray:
    moved = np.zeros_like(state)
    moved[:, :-1] = state[:, 1:]
    moved[:, 0] += state[:, 0]
    moved *= 1 - rate
    moved[:, -1] += rate
    return moved


def _seen(state: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """The state after evidence, a log likelihood ratio of compromised to not."""
    weights = np.exp(np.clip(ratio, -300, 300))[:, None]
    outside, inside = state[:, :1] / np.maximum(weights, 1), state[:, 1:] * np.minimum(weights, 1)
    seen = np.concatenate([outside, inside], axis=1)
    return np.asarray(seen / seen.sum(axis=1, keepdims=True))


def _earlier_that_day(key: np.ndarray, day: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """For each row, in order of time, the sum of its key's earlier ones of the day."""
    order = np.lexsort([day, key])  # stable: in order of time
    sums = np.cumsum(ratio[order]) - ratio[order]
    changes = (np.diff(key[order]) != 0) | (np.diff(day[order]) != 0)
    new = np.concatenate([[True], changes])
    starts = np.maximum.accumulate(np.where(new, np.arange(len(key)), 0))
    result = np.empty(len(key))
    result[order] = sums - sums[starts]
    return result
