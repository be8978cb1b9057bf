-- Grain: label record that cannot be used. Key: file, row_number (0 may repeat).
-- Views: raw_fraud_labels, ranked_labels (see fraud_labels_prepare.sql).
WITH winners AS (
    SELECT happened_on, transaction_id, is_fraud FROM ranked_labels WHERE turn = winner
),
losers AS (
    SELECT l.file, l.row_number, l.is_fraud
    FROM ranked_labels AS l
    JOIN winners AS w USING (happened_on, transaction_id)
    WHERE l.turn > l.winner AND l.is_fraud <> w.is_fraud
),
refused AS (
    SELECT *, problems AS reasons
    FROM raw_fraud_labels
    WHERE len(problems) > 0
    UNION ALL BY NAME
    SELECT
        r.*,
        ['another label was delivered for this transaction before; say corrections: replace if this feed corrects itself']
            AS reasons
    FROM raw_fraud_labels AS r
    JOIN losers AS l ON l.file = r.file AND l.row_number = r.row_number
    WHERE len(r.problems) = 0
)
SELECT
    feed, region, file, row_number, transaction_id, customer_id, terminal_id, amount_text, currency_text,
    time_text, label_text, rate_text, other, line, happened_at, local_time, amount, currency, reasons,
    day AS arrived_on,
    happened_on AS day
FROM refused
WHERE happened_on BETWEEN $first_day AND $last_day
