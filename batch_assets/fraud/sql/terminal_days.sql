-- terminal_days: how many transactions each terminal had on each UTC day.
-- Grain: one row a terminal and day with at least one transaction. Key: (terminal_id, day).
-- Days needed: clean_transactions [first_day, last_day].
SELECT
    terminal_id,
    count(*) AS tx_count,
    max(happened_at) AS last_at,
    day
FROM clean_transactions
WHERE day BETWEEN $first_day AND $last_day
GROUP BY terminal_id, day
ORDER BY day, terminal_id
