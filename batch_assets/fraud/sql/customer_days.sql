-- customer_days: what each customer spent on each UTC day.
-- Grain: one row a customer and day with at least one transaction. Key: (customer_id, day).
-- Days needed: clean_transactions [first_day, last_day].
-- amount_sum is exact, in the reporting currency.
SELECT
    customer_id,
    count(*) AS tx_count,
    sum(amount)::DECIMAL(38, 2) AS amount_sum,
    day
FROM clean_transactions
WHERE day BETWEEN $first_day AND $last_day
GROUP BY customer_id, day
ORDER BY day, customer_id
