-- What was found when a day's real-time scores were compared with the batch's.
-- Grain: day. View: realtime_reconciliation.
SELECT
    day,
    count(*) AS transactions,
    count(*) FILTER (status = 'agreed') AS agreed,
    count(*) FILTER (status = 'differs') AS differ,
    count(*) FILTER (status = 'missing') AS missing,
    count(*) FILTER (what_differs = 'model') AS other_model,
    count(*) FILTER (what_differs = 'transaction') AS other_transaction,
    count(*) FILTER (what_differs = 'amount') AS other_amount,
    count(*) FILTER (what_differs = 'features') AS other_features,
    coalesce(max(abs(difference)) FILTER (realtime_model_version = batch_model_version), 0)
        AS largest_difference
FROM realtime_reconciliation
GROUP BY day
ORDER BY day
