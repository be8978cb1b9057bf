-- Grain: transaction known as fraud by now, newest first. View: fraud_labels.
SELECT transaction_id, known_on
FROM fraud_labels
WHERE is_fraud
ORDER BY day DESC, transaction_id
LIMIT $most
