-- Transactions of the day that own_rows does not hold exactly once, and ids there that are none.
-- Grain: what is wrong; how often, and an example. No row is right.
-- View: clean_transactions. Table: own_rows. Variable: day.
SELECT
    CASE
        WHEN c.transaction_id IS NULL THEN 'rows of no clean transaction of that day'
        WHEN o.transaction_id IS NULL THEN 'transactions without a row'
        ELSE 'transactions with several rows'
    END AS what,
    count(*) AS times,
    min(coalesce(c.transaction_id, o.transaction_id)) AS example
FROM (SELECT transaction_id FROM clean_transactions WHERE day = getvariable('day')) AS c
FULL JOIN (SELECT transaction_id, count(*) AS found FROM own_rows GROUP BY transaction_id) AS o
    ON c.transaction_id = o.transaction_id
WHERE c.transaction_id IS NULL OR o.found IS DISTINCT FROM 1
GROUP BY what
ORDER BY what
