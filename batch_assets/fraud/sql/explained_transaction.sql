-- Grain: the transaction with one id, if it is scored. Views: fraud_predictions, transaction_features.
SELECT f.*, p.score, p.model_version, p.scored_at
FROM fraud_predictions AS p
JOIN transaction_features AS f ON f.day = p.day AND f.transaction_id = p.transaction_id
WHERE p.transaction_id = $transaction_id
