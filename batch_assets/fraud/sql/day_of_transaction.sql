-- Grain: the day of the transaction with one id, if it is scored. View: fraud_predictions.
SELECT day
FROM fraud_predictions
WHERE transaction_id = $transaction_id
