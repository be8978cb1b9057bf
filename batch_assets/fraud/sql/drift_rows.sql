-- Features, and whether customer and terminal are new: without a transaction on the 30 days before.
-- Grain: transaction, or a share of them, chosen by key.
-- Days needed: transaction_features, and customer_days and terminal_days from 30 days before.
WITH customers AS (
    SELECT customer_id, day, lag(day) OVER (PARTITION BY customer_id ORDER BY day) AS day_before
    FROM customer_days
),
terminals AS (
    SELECT terminal_id, day, lag(day) OVER (PARTITION BY terminal_id ORDER BY day) AS day_before
    FROM terminal_days
)
SELECT
    f.*,
    coalesce(c.day_before < f.day - 30, true) AS new_customer,
    coalesce(t.day_before < f.day - 30, true) AS new_terminal
FROM transaction_features AS f
LEFT JOIN customers AS c ON c.customer_id = f.customer_id AND c.day = f.day
LEFT JOIN terminals AS t ON t.terminal_id = f.terminal_id AND t.day = f.day
WHERE $share >= 1 OR hash(f.transaction_id) % 1000000 < $share * 1000000
