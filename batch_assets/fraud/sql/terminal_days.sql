-- terminal_days: how many transactions each terminal had on each UTC day.
-- Grain: one row a terminal and day with at least one transaction. Key: (terminal_id, day).
-- Days needed: clean_transactions [first_day, last_day].
select
    terminal_id,
    count(*) as tx_count,
    day
from clean_transactions
where day between $first_day and $last_day
group by terminal_id, day
order by day, terminal_id
