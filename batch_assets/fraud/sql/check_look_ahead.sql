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
    SELECT f.*, f.happened_at AS at
    FROM transaction_features AS f
    JOIN sizes AS s ON s.day = f.day AND s.after_frauds = (f.terminal_fraud_share_30d > 0)
    WHERE hash(f.transaction_id) % greatest(1, s.size // 20) = 0
),
past AS (
    SELECT c.* EXCLUDE (happened_at), c.happened_at AS at, l.known_on
    FROM clean_transactions AS c
    LEFT JOIN fraud_labels AS l
        ON l.transaction_id = c.transaction_id AND l.day = c.day AND l.is_fraud
),
-- The customer's transactions of 30 days.
customer AS (
    SELECT
        s.transaction_id,
        count(*) FILTER (p.at > s.at - INTERVAL 1 DAY) AS count_1d,
        count(*) FILTER (p.at > s.at - INTERVAL 7 DAY) AS count_7d,
        count(*) AS count_30d,
        avg(p.amount) FILTER (p.at > s.at - INTERVAL 1 DAY) AS mean_1d,
        avg(p.amount) FILTER (p.at > s.at - INTERVAL 7 DAY) AS mean_7d,
        avg(p.amount) AS mean_30d,
        avg(p.amount) FILTER (p.transaction_id <> s.transaction_id AND p.at > s.at - INTERVAL 7 DAY)
            AS others_7d,
        avg(p.amount) FILTER (p.transaction_id <> s.transaction_id) AS others_30d,
        avg(p.amount) FILTER (p.at <= s.at - INTERVAL 7 DAY) AS before_7d,
        stddev_pop(p.amount) FILTER (p.transaction_id <> s.transaction_id) AS spread,
        max(p.amount) FILTER (p.at < s.at AND p.at > s.at - INTERVAL 7 DAY)::DOUBLE AS max_7d,
        max(p.amount) FILTER (p.at < s.at)::DOUBLE AS max_30d
    FROM sample AS s
    JOIN past AS p
        ON p.customer_id = s.customer_id AND p.at <= s.at AND p.at > s.at - INTERVAL 30 DAY
    GROUP BY s.transaction_id
),
-- The customer's frauds that are old enough and known.
defrauded AS (
    SELECT s.transaction_id, count(*) AS frauds, max(p.at) AS fraud_at
    FROM sample AS s
    JOIN past AS p
        ON p.customer_id = s.customer_id
        AND p.at <= s.at - INTERVAL 7 DAY
        AND p.at > s.at - INTERVAL 37 DAY
        AND p.known_on <= s.day
    GROUP BY s.transaction_id
),
-- The terminal's transactions that are old enough for their labels.
settled AS (
    SELECT
        s.transaction_id,
        count(p.transaction_id) FILTER (p.at > s.at - INTERVAL 8 DAY) AS count_1d,
        count(p.transaction_id) FILTER (p.at > s.at - INTERVAL 14 DAY) AS count_7d,
        count(p.transaction_id) AS count_30d,
        count(*) FILTER (p.known_on <= s.day AND p.at > s.at - INTERVAL 8 DAY) AS frauds_1d,
        count(*) FILTER (p.known_on <= s.day AND p.at > s.at - INTERVAL 14 DAY) AS frauds_7d,
        count(*) FILTER (p.known_on <= s.day) AS frauds_30d,
        max(p.at) FILTER (p.known_on <= s.day) AS fraud_at,
        max(p.at) AS last_at
    FROM sample AS s
    LEFT JOIN past AS p
        ON p.terminal_id = s.terminal_id
        AND p.at <= s.at - INTERVAL 7 DAY
        AND p.at > s.at - INTERVAL 37 DAY
    GROUP BY s.transaction_id
),
-- The last day with a transaction at the terminal that is not known as fraud, of 8 to 37 days ago.
clean AS (
    SELECT s.transaction_id, max(p.day) FILTER (coalesce(p.known_on > s.day, true)) AS clean_day
    FROM sample AS s
    JOIN past AS p ON p.terminal_id = s.terminal_id AND p.day BETWEEN s.day - 37 AND s.day - 8
    GROUP BY s.transaction_id
),
-- The known frauds since then.
run AS (
    SELECT
        s.transaction_id,
        s.day - min(p.day) AS days,
        coalesce(s.day - any_value(c.clean_day), 37) AS clean_days
    FROM sample AS s
    JOIN past AS p ON p.terminal_id = s.terminal_id AND p.day BETWEEN s.day - 37 AND s.day - 8
    JOIN clean AS c ON c.transaction_id = s.transaction_id
    WHERE p.known_on <= s.day AND p.day > coalesce(c.clean_day, p.day - 1)
    GROUP BY s.transaction_id, s.day
),
-- Grain: a known fraud at the terminal; in thousandths of what else its customer paid that week.
compared_frauds AS (
    SELECT
        s.transaction_id,
        CASE
            WHEN coalesce(sum(p.amount), 0) = 0 THEN 1000
            ELSE greatest(-10000, least(10000,
                1000 * (f.amount::DECIMAL(38, 2) * 100)::HUGEINT * count(p.transaction_id)::HUGEINT
                // (sum(p.amount) * 100)::HUGEINT
            ))
        END AS excess
    FROM sample AS s
    JOIN past AS f
        ON f.terminal_id = s.terminal_id
        AND f.at <= s.at - INTERVAL 7 DAY
        AND f.at > s.at - INTERVAL 37 DAY
        AND f.known_on <= s.day
    LEFT JOIN past AS p
        ON p.customer_id = f.customer_id
        AND p.day BETWEEN f.day AND f.day + 6
        AND p.at < s.at
        AND p.transaction_id <> f.transaction_id
    GROUP BY s.transaction_id, f.transaction_id, f.amount
),
excess AS (
    SELECT
        transaction_id,
        count(*) FILTER (excess <= 1500) AS usual,
        avg(excess) / 1000 AS excess
    FROM compared_frauds
    GROUP BY transaction_id
),
-- Grain: a sampled row, and for each feature what it is and what it should be.
compared AS (
    SELECT
        s.day,
        s.transaction_id,
        s.happened_at,
        unnest([
            ('customer_tx_count_1d', s.customer_tx_count_1d, c.count_1d),
            ('customer_tx_count_7d', s.customer_tx_count_7d, c.count_7d),
            ('customer_tx_count_30d', s.customer_tx_count_30d, c.count_30d),
            ('customer_amount_mean_1d', s.customer_amount_mean_1d, c.mean_1d),
            ('customer_amount_mean_7d', s.customer_amount_mean_7d, c.mean_7d),
            ('customer_amount_mean_30d', s.customer_amount_mean_30d, c.mean_30d),
            ('terminal_tx_count_1d', s.terminal_tx_count_1d, t.count_1d),
            ('terminal_tx_count_7d', s.terminal_tx_count_7d, t.count_7d),
            ('terminal_tx_count_30d', s.terminal_tx_count_30d, t.count_30d),
            ('terminal_fraud_share_1d', s.terminal_fraud_share_1d, coalesce(t.frauds_1d / nullif(t.count_1d, 0), 0)),
            ('terminal_fraud_share_7d', s.terminal_fraud_share_7d, coalesce(t.frauds_7d / nullif(t.count_7d, 0), 0)),
            ('terminal_fraud_share_30d', s.terminal_fraud_share_30d, coalesce(t.frauds_30d / nullif(t.count_30d, 0), 0)),
            ('customer_amount_ratio_7d', s.customer_amount_ratio_7d, coalesce(s.amount / nullif(c.others_7d, 0), 1)),
            ('customer_amount_ratio_30d', s.customer_amount_ratio_30d, coalesce(s.amount / nullif(c.others_30d, 0), 1)),
            ('customer_amount_ratio_before_7d', s.customer_amount_ratio_before_7d, coalesce(s.amount / nullif(c.before_7d, 0), 1)),
            ('customer_amount_spread_30d', s.customer_amount_spread_30d, coalesce(c.spread, 0)),
            (
                'customer_amount_deviation_30d',
                s.customer_amount_deviation_30d,
                coalesce(
                    (s.amount - c.others_30d) * sqrt(c.count_30d)
                    / nullif(sqrt((c.count_30d - 1) * c.spread ** 2 + c.others_30d ** 2), 0),
                    0
                )
            ),
            ('customer_max_ratio_30d', s.customer_max_ratio_30d, coalesce(s.amount / nullif(c.max_30d, 0), 1)),
            ('customer_peak_7d', s.customer_peak_7d, coalesce(c.max_7d / nullif(c.others_30d, 0), 1)),
            ('customer_fraud_count_30d', s.customer_fraud_count_30d, coalesce(d.frauds, 0)),
            ('customer_days_since_fraud', s.customer_days_since_fraud, coalesce(epoch(s.at - d.fraud_at) / 86400, 37)),
            ('terminal_fraud_count_30d', s.terminal_fraud_count_30d, t.frauds_30d),
            ('terminal_usual_fraud_count_30d', s.terminal_usual_fraud_count_30d, coalesce(e.usual, 0)),
            ('terminal_fraud_excess_30d', s.terminal_fraud_excess_30d, coalesce(e.excess, 0)),
            ('terminal_days_since_fraud', s.terminal_days_since_fraud, coalesce(epoch(s.at - t.fraud_at) / 86400, 37)),
            ('terminal_days_clean', s.terminal_days_clean, coalesce(epoch(t.last_at - t.fraud_at) / 86400, 37)),
            ('terminal_fraud_run_days', s.terminal_fraud_run_days, coalesce(r.days, 0)),
            ('terminal_fraud_run_days_at_most', s.terminal_fraud_run_days_at_most, coalesce(r.clean_days, 0))
        ]::STRUCT(feature VARCHAR, found DOUBLE, expected DOUBLE)[]) AS one
    FROM sample AS s
    JOIN customer AS c USING (transaction_id)
    JOIN settled AS t USING (transaction_id)
    LEFT JOIN run AS r USING (transaction_id)
    LEFT JOIN excess AS e USING (transaction_id)
    LEFT JOIN defrauded AS d USING (transaction_id)
)
SELECT day, transaction_id, happened_at, one.feature, one.found, one.expected
FROM compared
WHERE NOT coalesce(abs(one.found - one.expected) <= 1e-6 * (1 + abs(one.expected)), false)
