-- Rows to be scored in real time, with the columns of clean_transactions, and why one cannot be used.
-- Grain: row asked for. Key: row_number.
-- View: priced (see clean_prepare.sql).
SELECT
    row_number,
    reasons,
    transaction_id,
    customer_id,
    terminal_id,
    happened_at,
    local_time,
    converted_amount AS amount,
    amount AS original_amount,
    currency AS original_currency,
    exchange_rate,
    feed,
    region,
    happened_on AS day
FROM priced
