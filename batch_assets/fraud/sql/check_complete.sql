-- Transactions that are not in all three tables; no row is right.
-- Views: clean_transactions, transaction_features, fraud_predictions (the same days of each).
SELECT c.day, 'features of ' || c.transaction_id AS missing
FROM clean_transactions AS c
ANTI JOIN transaction_features AS f ON f.transaction_id = c.transaction_id AND f.day = c.day
UNION ALL
SELECT f.day, 'score of ' || f.transaction_id
FROM transaction_features AS f
ANTI JOIN fraud_predictions AS p ON p.transaction_id = f.transaction_id AND p.day = f.day
UNION ALL
SELECT p.day, 'clean transaction of ' || p.transaction_id
FROM fraud_predictions AS p
ANTI JOIN clean_transactions AS c ON c.transaction_id = p.transaction_id AND c.day = p.day
