-- Rows of clean_transactions that the features of one day are made from, no wider than needed.
-- Grain: clean transaction. View: clean_transactions of the days read.
SELECT
    CASE WHEN day = $day THEN transaction_id END AS transaction_id,
    customer_id,
    terminal_id,
    happened_at,
    amount,
    CASE WHEN day = $day THEN local_time END AS local_time,
    day
FROM clean_transactions
