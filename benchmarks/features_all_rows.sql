-- What the features cost without totals a day: every row of the 37 days before is read and windowed.
-- Grain: one row a clean transaction. Key: transaction_id. Labels must all be known within 7 days.
WITH read AS (
    SELECT
        clean.transaction_id,
        clean.customer_id,
        clean.terminal_id,
        clean.happened_at,
        clean.local_time,
        clean.amount,
        (fraud.transaction_id IS NOT NULL)::INTEGER AS fraud,
        clean.day
    FROM clean_transactions AS clean
    LEFT JOIN terminal_frauds AS fraud
        ON clean.transaction_id = fraud.transaction_id
        AND clean.day = fraud.day
        AND fraud.day BETWEEN $first_day - 37 AND $last_day
    WHERE clean.day BETWEEN $first_day - 37 AND $last_day
),

windowed AS (
    SELECT
        *,
        count(*) OVER c_1d AS c_count_1d,
        count(*) OVER c_7d AS c_count_7d,
        count(*) OVER c_30d AS c_count_30d,
        sum(amount) OVER c_1d AS c_sum_1d,
        sum(amount) OVER c_7d AS c_sum_7d,
        sum(amount) OVER c_30d AS c_sum_30d,
        count(*) OVER t_1d AS t_count_1d,
        count(*) OVER t_7d AS t_count_7d,
        count(*) OVER t_30d AS t_count_30d,
        sum(fraud) OVER t_1d AS t_frauds_1d,
        sum(fraud) OVER t_7d AS t_frauds_7d,
        sum(fraud) OVER t_30d AS t_frauds_30d
    FROM read
    WINDOW
        c_1d AS (
            PARTITION BY customer_id ORDER BY happened_at
            RANGE BETWEEN INTERVAL '23:59:59.999999' PRECEDING AND CURRENT ROW
        ),
        c_7d AS (
            PARTITION BY customer_id ORDER BY happened_at
            RANGE BETWEEN INTERVAL '6 DAYS 23:59:59.999999' PRECEDING AND CURRENT ROW
        ),
        c_30d AS (
            PARTITION BY customer_id ORDER BY happened_at
            RANGE BETWEEN INTERVAL '29 DAYS 23:59:59.999999' PRECEDING AND CURRENT ROW
        ),
        t_1d AS (
            PARTITION BY terminal_id ORDER BY happened_at
            RANGE BETWEEN INTERVAL '7 DAYS 23:59:59.999999' PRECEDING AND INTERVAL 7 DAYS PRECEDING
        ),
        t_7d AS (
            PARTITION BY terminal_id ORDER BY happened_at
            RANGE BETWEEN INTERVAL '13 DAYS 23:59:59.999999' PRECEDING AND INTERVAL 7 DAYS PRECEDING
        ),
        t_30d AS (
            PARTITION BY terminal_id ORDER BY happened_at
            RANGE BETWEEN INTERVAL '36 DAYS 23:59:59.999999' PRECEDING AND INTERVAL 7 DAYS PRECEDING
        )
)

SELECT
    transaction_id,
    customer_id,
    terminal_id,
    happened_at,
    amount::DOUBLE AS amount,
    (isodow(local_time) >= 6)::INTEGER AS during_weekend,
    (hour(local_time) <= 6)::INTEGER AS during_night,
    c_count_1d::INTEGER AS customer_tx_count_1d,
    c_count_7d::INTEGER AS customer_tx_count_7d,
    c_count_30d::INTEGER AS customer_tx_count_30d,
    (c_sum_1d * 100)::HUGEINT::DOUBLE / (100 * c_count_1d)::DOUBLE AS customer_amount_mean_1d,
    (c_sum_7d * 100)::HUGEINT::DOUBLE / (100 * c_count_7d)::DOUBLE AS customer_amount_mean_7d,
    (c_sum_30d * 100)::HUGEINT::DOUBLE / (100 * c_count_30d)::DOUBLE AS customer_amount_mean_30d,
    t_count_1d::INTEGER AS terminal_tx_count_1d,
    t_count_7d::INTEGER AS terminal_tx_count_7d,
    t_count_30d::INTEGER AS terminal_tx_count_30d,
    coalesce(t_frauds_1d::DOUBLE / nullif(t_count_1d, 0)::DOUBLE, 0) AS terminal_fraud_share_1d,
    coalesce(t_frauds_7d::DOUBLE / nullif(t_count_7d, 0)::DOUBLE, 0) AS terminal_fraud_share_7d,
    coalesce(t_frauds_30d::DOUBLE / nullif(t_count_30d, 0)::DOUBLE, 0) AS terminal_fraud_share_30d,
    day
FROM windowed
WHERE day BETWEEN $first_day AND $last_day
ORDER BY day, happened_at, transaction_id
