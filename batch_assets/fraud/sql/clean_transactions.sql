-- Grain: transaction. Key: transaction_id, over all days.
-- Views: priced, fates (see clean_prepare.sql).
SELECT
    p.transaction_id,
    p.customer_id,
    p.terminal_id,
    p.happened_at,
    p.local_time,
    p.converted_amount AS amount,
    p.amount AS original_amount,
    p.currency AS original_currency,
    p.exchange_rate,
    p.is_fraud AS delivered_label,
    p.feed,
    p.region,
    p.file,
    p.row_number,
    p.day AS arrived_on,
    p.happened_on AS day
FROM priced AS p
ANTI JOIN fates AS f ON f.file = p.file AND f.row_number = p.row_number
WHERE len(p.reasons) = 0 AND p.happened_on BETWEEN $first_day AND $last_day
