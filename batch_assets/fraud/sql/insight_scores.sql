-- Grain: day and twentieth of the score. View: fraud_predictions.
SELECT day, least(floor(score * 20), 19)::INTEGER AS bucket, count(*) AS transactions
FROM fraud_predictions
GROUP BY ALL
