-- Grain: transaction. Key: transaction_id. Features and label; of genuine rows only a share, chosen by key.
-- Views: transaction_features, fraud_labels.
SELECT f.*, coalesce(l.is_fraud, false) AS is_fraud
FROM transaction_features AS f
LEFT JOIN fraud_labels AS l ON l.transaction_id = f.transaction_id AND l.day = f.day
WHERE coalesce(l.is_fraud, false) OR $share >= 1 OR hash(f.transaction_id) % 1000000 < $share * 1000000
