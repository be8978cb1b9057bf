-- Grain: fraudulent transaction. Views: clean_transactions, fraud_labels.
SELECT c.day, c.customer_id
FROM clean_transactions AS c
JOIN fraud_labels AS l ON l.transaction_id = c.transaction_id AND l.day = c.day
WHERE l.is_fraud
