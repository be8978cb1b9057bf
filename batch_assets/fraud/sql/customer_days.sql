-- customer_days: what each customer spent on each UTC day.
-- Grain: one row a customer and day with at least one transaction. Key: (customer_id, day).
-- Days needed: clean_transactions [first_day, last_day].
-- amount_sum is exact, in the reporting currency.
select
    customer_id,
    count(*) as tx_count,
    sum(amount)::decimal(38, 2) as amount_sum,
    day
from clean_transactions
where day between $first_day and $last_day
group by customer_id, day
order by day, customer_id
