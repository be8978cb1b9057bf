-- What a SELECT of one's own sees when it is run for a day: what is known at a moment of that day.
-- Variables: day, oldest_day (day less the look-back), moment (the day's end, or the time of a row).
-- Views: stored_<each of these>; given_transactions, which take the place of stored ones, or are new.
-- Totals of the day itself would hold what comes later, so the last ones are of the day before.
CREATE OR REPLACE VIEW clean_transactions AS
SELECT * EXCLUDE (delivered_label)
FROM (
    SELECT * FROM stored_clean_transactions
    WHERE transaction_id NOT IN (SELECT transaction_id FROM given_transactions)
    UNION ALL BY NAME
    SELECT * FROM given_transactions
)
WHERE day BETWEEN getvariable('oldest_day') AND getvariable('day') AND happened_at <= getvariable('moment');

CREATE OR REPLACE VIEW fraud_labels AS
SELECT *
FROM stored_fraud_labels
WHERE day BETWEEN getvariable('oldest_day') AND getvariable('day') AND known_on <= getvariable('day');

CREATE OR REPLACE VIEW terminal_frauds AS
SELECT *
FROM stored_terminal_frauds
WHERE
    day BETWEEN getvariable('oldest_day') AND getvariable('day')
    AND known_on <= getvariable('day')
    AND happened_at <= getvariable('moment');

CREATE OR REPLACE VIEW customer_days AS
SELECT * FROM stored_customer_days
WHERE day >= getvariable('oldest_day') AND day < getvariable('day');

CREATE OR REPLACE VIEW terminal_days AS
SELECT * FROM stored_terminal_days
WHERE day >= getvariable('oldest_day') AND day < getvariable('day');

CREATE OR REPLACE VIEW exchange_rates AS
SELECT * FROM stored_exchange_rates
WHERE day BETWEEN getvariable('oldest_day') AND getvariable('day');
