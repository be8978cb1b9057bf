-- Grain: labelled transaction. Key: transaction_id within its day.
-- View: ranked_labels (see fraud_labels_prepare.sql).
SELECT transaction_id, is_fraud, known_on, happened_on AS day
FROM ranked_labels
WHERE turn = winner AND happened_on BETWEEN $first_day AND $last_day
