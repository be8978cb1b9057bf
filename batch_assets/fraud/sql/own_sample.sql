-- Grain: sampled transaction of a day. View: clean_transactions, of that day.
-- A third is followed by most others of its customer, a third at its terminal, a third is any:
-- where a feature looks ahead, there is something to be seen.
WITH counted AS (
    SELECT
        *,
        count(*) OVER later_ones_of_customer AS by_customer,
        count(*) OVER later_ones_at_terminal AS at_terminal
    FROM clean_transactions
    WINDOW
        later_ones_of_customer AS (
            PARTITION BY customer_id ORDER BY happened_at
            RANGE BETWEEN INTERVAL '00:00:00.000001' FOLLOWING AND UNBOUNDED FOLLOWING
        ),
        later_ones_at_terminal AS (
            PARTITION BY terminal_id ORDER BY happened_at
            RANGE BETWEEN INTERVAL '00:00:00.000001' FOLLOWING AND UNBOUNDED FOLLOWING
        )
)
SELECT * EXCLUDE (by_customer, at_terminal)
FROM counted
QUALIFY
    row_number() OVER (ORDER BY by_customer DESC, transaction_id) <= $third
    OR row_number() OVER (ORDER BY at_terminal DESC, transaction_id) <= $third
    OR row_number() OVER (ORDER BY hash(transaction_id)) <= $third
ORDER BY happened_at, transaction_id
