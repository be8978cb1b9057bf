-- Days whose scores and vectors are not of one pass of one model; no row is right.
-- Sums of hashes over all rows of a day: they differ when a single row does.
-- Views: fraud_predictions, vectors (the same days of each; vectors can be read once).
WITH held AS (
    SELECT
        day, 'scores' AS name, count(*) AS row_count, count(DISTINCT model_version) AS models,
        sum(hash(transaction_id, score, model_version)) AS hashes
    FROM fraud_predictions
    GROUP BY day
    UNION ALL
    SELECT
        day, 'vectors', count(*), count(DISTINCT model_version),
        sum(hash(transaction_id, score, model_version))
    FROM vectors
    GROUP BY day
)
SELECT
    day,
    string_agg(row_count || ' ' || name || ' of ' || models || ' models', ', ' ORDER BY name)
        AS wrong
FROM held
GROUP BY day
HAVING count(*) < 2 OR min(hashes) < max(hashes) OR max(models) > 1
