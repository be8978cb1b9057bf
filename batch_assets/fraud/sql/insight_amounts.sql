-- Grain: day and bucket of amounts (powers of two), in order. View: clean_transactions.
SELECT
    day,
    CASE WHEN amount < 1 THEN '<1' ELSE (2 ** floor(log2(amount::DOUBLE)))::BIGINT::VARCHAR END AS bucket,
    count(*) AS transactions,
    sum(amount) AS total
FROM clean_transactions
GROUP BY day, bucket
ORDER BY day, min(amount)
