-- customer_days: what each customer spent on each UTC day.
-- Grain: one row a customer and day with at least one transaction. Key: (customer_id, day).
-- Days needed: clean_transactions [first_day, last_day].
-- Sums are exact, in the reporting currency. amount_squares is in squares of its hundredth, and
-- counts an amount above ten billion as that much: no number of rows makes it overflow.
SELECT
    customer_id,
    count(*) AS tx_count,
    sum(amount)::DECIMAL(38, 2) AS amount_sum,
    sum(capped * capped)::DECIMAL(38, 0) AS amount_squares,
    max(amount) AS amount_max,
    day
FROM (
    SELECT *, least(abs((amount::DECIMAL(38, 2) * 100)::HUGEINT), 1_000_000_000_000) AS capped
    FROM clean_transactions
    WHERE day BETWEEN $first_day AND $last_day
)
GROUP BY customer_id, day
ORDER BY day, customer_id
