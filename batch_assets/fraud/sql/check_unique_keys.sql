-- Keys of the fresh days that stand more than once in all days; no row is right.
-- Views: fresh, every (both clean_transactions).
WITH suspects AS (
    SELECT hash(transaction_id) AS key_hash
    FROM every
    WHERE hash(transaction_id) IN (SELECT hash(transaction_id) FROM fresh)
    GROUP BY key_hash
    HAVING count(*) > 1
)
SELECT transaction_id, count(*) AS times, min(day) AS first_day, max(day) AS last_day
FROM every
WHERE hash(transaction_id) IN (SELECT key_hash FROM suspects)
GROUP BY transaction_id
HAVING count(*) > 1
