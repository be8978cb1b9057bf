-- Grain: rate record that cannot be used. Key: file, row_number (0 may repeat).
-- Views: raw_exchange_rates, ranked_rates (see exchange_rates_prepare.sql).
WITH refused AS (
    SELECT *, problems AS reasons
    FROM raw_exchange_rates
    WHERE len(problems) > 0
    UNION ALL BY NAME
    SELECT
        * EXCLUDE (replaces, turn, winner, winning_rate),
        ['another rate, ' || winning_rate || ', was delivered for ' || currency || ' on ' || happened_on] AS reasons
    FROM ranked_rates
    WHERE turn > winner AND rate <> winning_rate
)
SELECT
    feed, region, file, row_number, transaction_id, customer_id, terminal_id, amount_text, currency_text,
    time_text, label_text, rate_text, other, line, happened_at, local_time, amount, currency, reasons,
    day AS arrived_on,
    happened_on AS day
FROM refused
WHERE happened_on BETWEEN $first_day AND $last_day
