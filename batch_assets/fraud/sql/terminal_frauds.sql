-- terminal_frauds: the transactions reported as fraud, with the day from which that was known.
-- Grain: one row a fraudulent transaction. Key: transaction_id.
-- Days needed: clean_transactions and fraud_labels [first_day, last_day].
-- A label without a clean transaction of the same id and day is left out: it never counts.
SELECT
    clean.terminal_id,
    clean.customer_id,
    clean.transaction_id,
    clean.happened_at,
    clean.amount,
    label.known_on,
    clean.day
FROM clean_transactions AS clean
INNER JOIN fraud_labels AS label
    ON clean.transaction_id = label.transaction_id
    AND clean.day = label.day
WHERE
    clean.day BETWEEN $first_day AND $last_day
    AND label.day BETWEEN $first_day AND $last_day
    AND label.is_fraud
ORDER BY clean.day, clean.happened_at, clean.transaction_id
