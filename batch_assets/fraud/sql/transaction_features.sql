-- transaction_features: what was known about each transaction at the moment it happened.
-- Grain: one row a clean transaction. Key: transaction_id. Order: day, happened_at, transaction_id.
-- Days needed: see batch_assets.fraud.features.days_read(first_day, last_day).
--
-- Windows (UTC, to the microsecond, everything of the same instant included):
--   customer  (t - w, t]            w = 1, 7, 30 days
--   terminal  (t - 7 d - w, t - 7 d], the 7 days a fraud label takes to arrive
-- A fraud counts in a terminal window from the day its label is known.
--
-- A window's ends fall on few UTC days: for customers its own and 1, 7, 30 days before, for
-- terminals 7, 8, 14, 37 days before. Rows of these edge days are put in order of time and summed
-- over RANGE frames. The days between them are wholly inside or wholly outside each window of every
-- scored row: of them, only totals are read and added. So what a day costs does not grow with the
-- window, and in a long range, where every day is an edge day of some other, each row is read once.
WITH scored AS (
    SELECT
        transaction_id,
        customer_id,
        terminal_id,
        happened_at,
        amount,
        (isodow(local_time) >= 6)::TINYINT AS during_weekend,
        (hour(local_time) <= 6)::TINYINT AS during_night,
        day
    FROM clean_transactions
    WHERE day BETWEEN $first_day AND $last_day
),

-- Grain: a scored row or, without id, a row of an earlier edge day.
-- ``spent`` is number and amount in one integer, number * 2^90 + hundredths: a window then needs one
-- exact sum, not two, which saves an eighth of the whole. Taken apart in customer_totals.
customer_events AS (
    SELECT
        customer_id,
        happened_at,
        (1::HUGEINT << 90) + (amount::DECIMAL(38, 2) * 100)::HUGEINT AS spent,
        transaction_id,
        terminal_id,
        amount,
        during_weekend,
        during_night,
        day
    FROM scored
    UNION ALL BY NAME
    SELECT
        customer_id,
        happened_at,
        (1::HUGEINT << 90) + (amount::DECIMAL(38, 2) * 100)::HUGEINT AS spent
    FROM clean_transactions
    WHERE
        day < $first_day
        AND (
            day BETWEEN $first_day - 30 AND $last_day - 30
            OR day BETWEEN $first_day - 7 AND $last_day - 7
            OR day BETWEEN $first_day - 1 AND $last_day - 1
        )
        AND customer_id IN (SELECT customer_id FROM scored)
),

-- Grain: a customer, with the totals of the days between the edges that are in each window.
customer_whole_days AS (
    SELECT
        customer_id,
        sum((tx_count::HUGEINT << 90) + (amount_sum * 100)::HUGEINT)
            FILTER (day > $last_day - 7) AS spent_7d,
        sum((tx_count::HUGEINT << 90) + (amount_sum * 100)::HUGEINT) AS spent_30d
    FROM customer_days
    WHERE
        day BETWEEN $last_day - 29 AND $first_day - 8
        OR day BETWEEN $last_day - 6 AND $first_day - 2
    GROUP BY customer_id
),

customer_sums AS (
    SELECT
        transaction_id,
        customer_id,
        terminal_id,
        happened_at,
        amount,
        during_weekend,
        during_night,
        day,
        sum(spent) OVER window_1d AS spent_1d,
        sum(spent) OVER window_7d AS spent_7d,
        sum(spent) OVER window_30d AS spent_30d
    FROM customer_events
    WINDOW
        window_1d AS (
            PARTITION BY customer_id ORDER BY happened_at
            RANGE BETWEEN INTERVAL '23:59:59.999999' PRECEDING AND CURRENT ROW
        ),
        window_7d AS (
            PARTITION BY customer_id ORDER BY happened_at
            RANGE BETWEEN INTERVAL '6 DAYS 23:59:59.999999' PRECEDING AND CURRENT ROW
        ),
        window_30d AS (
            PARTITION BY customer_id ORDER BY happened_at
            RANGE BETWEEN INTERVAL '29 DAYS 23:59:59.999999' PRECEDING AND CURRENT ROW
        )
),

-- Half of 2^90 is added before the shift so that amounts below zero, too, leave the number right.
customer_totals AS (
    SELECT
        scored.* EXCLUDE (spent_1d, spent_7d, spent_30d),
        scored.spent_1d AS all_1d,
        scored.spent_7d + coalesce(whole_days.spent_7d, 0) AS all_7d,
        scored.spent_30d + coalesce(whole_days.spent_30d, 0) AS all_30d,
        (all_1d + (1::HUGEINT << 89)) >> 90 AS count_1d,
        (all_7d + (1::HUGEINT << 89)) >> 90 AS count_7d,
        (all_30d + (1::HUGEINT << 89)) >> 90 AS count_30d,
        all_1d - (count_1d << 90) AS hundredths_1d,
        all_7d - (count_7d << 90) AS hundredths_7d,
        all_30d - (count_30d << 90) AS hundredths_30d
    FROM (SELECT * FROM customer_sums WHERE transaction_id IS NOT NULL) AS scored
    LEFT JOIN customer_whole_days AS whole_days ON scored.customer_id = whole_days.customer_id
),

-- Grain: a step of the numbers of known frauds in a terminal's windows: up in all when it enters,
-- down in each when it leaves, neither before its label is known. Known only after it left: up and
-- down at one instant, which a RANGE frame sees as one. ``frauds`` is the three numbers in one
-- integer: 1 d + 2^40 * 7 d + 2^80 * 30 d, taken apart in terminal_totals.
fraud_steps AS (
    SELECT
        terminal_id,
        greatest(happened_at + to_days(after_days), known_on::TIMESTAMP) AS happened_at,
        frauds
    FROM terminal_frauds
    CROSS JOIN (
        VALUES
            (7, 1 + (1::HUGEINT << 40) + (1::HUGEINT << 80)),
            (8, -1),
            (14, -(1::HUGEINT << 40)),
            (37, -(1::HUGEINT << 80))
    ) AS steps (after_days, frauds)
    WHERE
        day BETWEEN $first_day - 37 AND $last_day - 7
        AND terminal_id IN (SELECT terminal_id FROM scored)
),

-- Grain: as customer_events, and the fraud steps; steps before the first scored day, as one. Each
-- mean is one division of exact numbers.
terminal_events AS (
    SELECT
        transaction_id,
        customer_id,
        terminal_id,
        happened_at,
        1 AS tx_count,
        amount::DOUBLE AS amount,
        during_weekend,
        during_night,
        count_1d::INTEGER AS customer_tx_count_1d,
        count_7d::INTEGER AS customer_tx_count_7d,
        count_30d::INTEGER AS customer_tx_count_30d,
        hundredths_1d::DOUBLE / (100 * count_1d)::DOUBLE AS customer_amount_mean_1d,
        hundredths_7d::DOUBLE / (100 * count_7d)::DOUBLE AS customer_amount_mean_7d,
        hundredths_30d::DOUBLE / (100 * count_30d)::DOUBLE AS customer_amount_mean_30d,
        day
    FROM customer_totals
    UNION ALL BY NAME
    SELECT
        terminal_id,
        happened_at,
        1 AS tx_count
    FROM clean_transactions
    WHERE
        day < $first_day
        AND (
            day BETWEEN $first_day - 37 AND $last_day - 37
            OR day BETWEEN $first_day - 14 AND $last_day - 14
            OR day BETWEEN $first_day - 8 AND $last_day - 7
        )
        AND terminal_id IN (SELECT terminal_id FROM scored)
    UNION ALL BY NAME
    SELECT
        terminal_id,
        greatest(happened_at, $first_day::TIMESTAMP) AS happened_at,
        sum(frauds) AS frauds
    FROM fraud_steps
    WHERE happened_at < $last_day + 1
    GROUP BY ALL
),

-- Grain: a terminal, as customer_whole_days.
terminal_whole_days AS (
    SELECT
        terminal_id,
        sum(tx_count) FILTER (day > $last_day - 14) AS count_7d,
        sum(tx_count) AS count_30d
    FROM terminal_days
    WHERE
        day BETWEEN $last_day - 36 AND $first_day - 15
        OR day BETWEEN $last_day - 13 AND $first_day - 9
    GROUP BY terminal_id
),

terminal_sums AS (
    SELECT
        * EXCLUDE (tx_count, frauds),
        sum(tx_count) OVER window_1d AS count_1d,
        sum(tx_count) OVER window_7d AS count_7d,
        sum(tx_count) OVER window_30d AS count_30d,
        sum(frauds) OVER so_far AS frauds
    FROM terminal_events
    WINDOW
        window_1d AS (
            PARTITION BY terminal_id ORDER BY happened_at
            RANGE BETWEEN INTERVAL '7 DAYS 23:59:59.999999' PRECEDING AND INTERVAL 7 DAYS PRECEDING
        ),
        window_7d AS (
            PARTITION BY terminal_id ORDER BY happened_at
            RANGE BETWEEN INTERVAL '13 DAYS 23:59:59.999999' PRECEDING AND INTERVAL 7 DAYS PRECEDING
        ),
        window_30d AS (
            PARTITION BY terminal_id ORDER BY happened_at
            RANGE BETWEEN INTERVAL '36 DAYS 23:59:59.999999' PRECEDING AND INTERVAL 7 DAYS PRECEDING
        ),
        so_far AS (
            PARTITION BY terminal_id ORDER BY happened_at
            RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        )
),

terminal_totals AS (
    SELECT
        scored.* EXCLUDE (count_1d, count_7d, count_30d, frauds),
        coalesce(scored.count_1d, 0) AS count_1d,
        coalesce(scored.count_7d, 0) + coalesce(whole_days.count_7d, 0) AS count_7d,
        coalesce(scored.count_30d, 0) + coalesce(whole_days.count_30d, 0) AS count_30d,
        coalesce(scored.frauds, 0) & ((1::HUGEINT << 40) - 1) AS frauds_1d,
        (coalesce(scored.frauds, 0) >> 40) & ((1::HUGEINT << 40) - 1) AS frauds_7d,
        coalesce(scored.frauds, 0) >> 80 AS frauds_30d
    FROM (SELECT * FROM terminal_sums WHERE transaction_id IS NOT NULL) AS scored
    LEFT JOIN terminal_whole_days AS whole_days ON scored.terminal_id = whole_days.terminal_id
)

SELECT
    transaction_id,
    customer_id,
    terminal_id,
    happened_at,
    amount,
    during_weekend::INTEGER AS during_weekend,
    during_night::INTEGER AS during_night,
    customer_tx_count_1d,
    customer_tx_count_7d,
    customer_tx_count_30d,
    customer_amount_mean_1d,
    customer_amount_mean_7d,
    customer_amount_mean_30d,
    count_1d::INTEGER AS terminal_tx_count_1d,
    count_7d::INTEGER AS terminal_tx_count_7d,
    count_30d::INTEGER AS terminal_tx_count_30d,
    coalesce(frauds_1d::DOUBLE / nullif(count_1d, 0)::DOUBLE, 0) AS terminal_fraud_share_1d,
    coalesce(frauds_7d::DOUBLE / nullif(count_7d, 0)::DOUBLE, 0) AS terminal_fraud_share_7d,
    coalesce(frauds_30d::DOUBLE / nullif(count_30d, 0)::DOUBLE, 0) AS terminal_fraud_share_30d,
    day
FROM terminal_totals
ORDER BY day, happened_at, transaction_id
