-- Features of a sample that differ from what was known at that moment; no row is right.
-- Each sampled row is computed again by plain joins, from rows no later than itself and labels known
-- by its day. Of each day 20 to 39 rows with frauds at their terminal and as many without, or all.
-- Views: transaction_features, clean_transactions, fraud_labels.
WITH sizes AS (
    SELECT day, terminal_fraud_share_30d > 0 AS after_frauds, count(*) AS size
    FROM transaction_features
    GROUP BY ALL
),
sample AS (
    SELECT f.*
    FROM transaction_features AS f
    JOIN sizes AS s ON s.day = f.day AND s.after_frauds = (f.terminal_fraud_share_30d > 0)
    WHERE hash(f.transaction_id) % greatest(1, s.size // 20) = 0
),
customer AS (
    SELECT
        s.transaction_id,
        count(*) FILTER (c.happened_at > s.happened_at - INTERVAL 1 DAY) AS count_1d,
        count(*) FILTER (c.happened_at > s.happened_at - INTERVAL 7 DAY) AS count_7d,
        count(*) AS count_30d,
        avg(c.amount::DOUBLE) FILTER (c.happened_at > s.happened_at - INTERVAL 1 DAY) AS mean_1d,
        avg(c.amount::DOUBLE) FILTER (c.happened_at > s.happened_at - INTERVAL 7 DAY) AS mean_7d,
        avg(c.amount::DOUBLE) AS mean_30d
    FROM sample AS s
    JOIN clean_transactions AS c
        ON c.customer_id = s.customer_id
        AND c.happened_at <= s.happened_at
        AND c.happened_at > s.happened_at - INTERVAL 30 DAY
    GROUP BY s.transaction_id
),
terminal AS (
    SELECT
        s.transaction_id,
        count(c.transaction_id) FILTER (c.happened_at > s.happened_at - INTERVAL 8 DAY) AS count_1d,
        count(c.transaction_id) FILTER (c.happened_at > s.happened_at - INTERVAL 14 DAY) AS count_7d,
        count(c.transaction_id) AS count_30d,
        count(l.is_fraud) FILTER (l.is_fraud AND c.happened_at > s.happened_at - INTERVAL 8 DAY) AS frauds_1d,
        count(l.is_fraud) FILTER (l.is_fraud AND c.happened_at > s.happened_at - INTERVAL 14 DAY) AS frauds_7d,
        count(l.is_fraud) FILTER (l.is_fraud) AS frauds_30d
    FROM sample AS s
    LEFT JOIN clean_transactions AS c
        ON c.terminal_id = s.terminal_id
        AND c.happened_at <= s.happened_at - INTERVAL 7 DAY
        AND c.happened_at > s.happened_at - INTERVAL 37 DAY
    LEFT JOIN fraud_labels AS l
        ON l.transaction_id = c.transaction_id AND l.day = c.day AND l.known_on <= s.day
    GROUP BY s.transaction_id
)
SELECT s.day, s.transaction_id, s.happened_at
FROM sample AS s
JOIN customer AS c USING (transaction_id)
JOIN terminal AS t USING (transaction_id)
WHERE (s.customer_tx_count_1d, s.customer_tx_count_7d, s.customer_tx_count_30d)
        <> (c.count_1d, c.count_7d, c.count_30d)
    OR abs(s.customer_amount_mean_1d - c.mean_1d) > 1e-6 * (1 + abs(c.mean_1d))
    OR abs(s.customer_amount_mean_7d - c.mean_7d) > 1e-6 * (1 + abs(c.mean_7d))
    OR abs(s.customer_amount_mean_30d - c.mean_30d) > 1e-6 * (1 + abs(c.mean_30d))
    OR (s.terminal_tx_count_1d, s.terminal_tx_count_7d, s.terminal_tx_count_30d)
        <> (t.count_1d, t.count_7d, t.count_30d)
    OR abs(s.terminal_fraud_share_1d - coalesce(t.frauds_1d / nullif(t.count_1d, 0), 0)) > 1e-9
    OR abs(s.terminal_fraud_share_7d - coalesce(t.frauds_7d / nullif(t.count_7d, 0), 0)) > 1e-9
    OR abs(s.terminal_fraud_share_30d - coalesce(t.frauds_30d / nullif(t.count_30d, 0), 0)) > 1e-9
