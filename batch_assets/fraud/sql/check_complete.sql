-- Transactions that are not in all three tables; no row is right.
-- Sums of hashes tell which days can differ, so that keys are compared of those days alone.
-- Views: clean_transactions, transaction_features, fraud_predictions (the same days of each).
WITH held AS (
    SELECT day, 'clean' AS name, count(*) AS keys, sum(hash(transaction_id)) AS hashes
    FROM clean_transactions
    GROUP BY day
    UNION ALL
    SELECT day, 'features', count(*), sum(hash(transaction_id))
    FROM transaction_features
    GROUP BY day
    UNION ALL
    SELECT day, 'scores', count(*), sum(hash(transaction_id))
    FROM fraud_predictions
    GROUP BY day
),
suspects AS (
    SELECT day
    FROM held
    GROUP BY day
    HAVING count(*) < 3 OR min(keys) < max(keys) OR min(hashes) < max(hashes)
),
clean AS (
    SELECT day, transaction_id FROM clean_transactions WHERE day IN (FROM suspects)
),
features AS (
    SELECT day, transaction_id FROM transaction_features WHERE day IN (FROM suspects)
),
scores AS (
    SELECT day, transaction_id FROM fraud_predictions WHERE day IN (FROM suspects)
)
SELECT day, 'features of ' || transaction_id AS missing
FROM clean
ANTI JOIN features USING (transaction_id, day)
UNION ALL
SELECT day, 'score of ' || transaction_id
FROM features
ANTI JOIN scores USING (transaction_id, day)
UNION ALL
SELECT day, 'clean transaction of ' || transaction_id
FROM scores
ANTI JOIN clean USING (transaction_id, day)
