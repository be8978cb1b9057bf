-- Grain: one row, the median of each feature on a day. View: transaction_features.
SELECT median(COLUMNS(* EXCLUDE (transaction_id, customer_id, terminal_id, happened_at, day)))
FROM transaction_features
WHERE day = $day
