-- Prepares fraud_labels and quarantined_labels: of several labels of a transaction the first known
-- counts, or the last one of a feed that replaces.
-- Views: raw_fraud_labels, clean_transactions, feed_rules.
CREATE OR REPLACE TEMP VIEW ranked_labels AS
WITH delivered AS (
    SELECT transaction_id, is_fraud, day AS known_on, happened_on, feed, file, row_number
    FROM raw_fraud_labels
    WHERE len(problems) = 0
    UNION ALL BY NAME
    SELECT
        c.transaction_id,
        c.delivered_label AS is_fraud,
        (c.happened_at + to_days(f.label_delay_days))::DATE AS known_on,
        c.day AS happened_on,
        c.feed,
        c.file,
        c.row_number
    FROM clean_transactions AS c
    JOIN feed_rules AS f ON f.feed = c.feed
    WHERE c.delivered_label IS NOT NULL
),
ranked AS (
    SELECT
        d.*,
        coalesce(f.replaces, false) AS replaces,
        row_number() OVER (
            PARTITION BY d.happened_on, d.transaction_id ORDER BY d.known_on, d.file, d.row_number
        ) AS turn
    FROM delivered AS d
    LEFT JOIN feed_rules AS f ON f.feed = d.feed
)
SELECT
    *,
    coalesce(
        max(turn) FILTER (replaces) OVER (PARTITION BY happened_on, transaction_id), 1
    ) AS winner
FROM ranked
