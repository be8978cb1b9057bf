-- terminal_frauds: the transactions reported as fraud, with the day from which that was known.
-- Grain: one row a fraudulent transaction. Key: transaction_id.
-- Days needed: clean_transactions and fraud_labels [first_day, last_day].
-- A label without a clean transaction of the same id and day is left out: it never counts.
select
    clean.terminal_id,
    clean.transaction_id,
    clean.happened_at,
    label.known_on,
    clean.day
from clean_transactions as clean
inner join fraud_labels as label
    on clean.transaction_id = label.transaction_id
    and clean.day = label.day
where
    clean.day between $first_day and $last_day
    and label.day between $first_day and $last_day
    and label.is_fraud
order by clean.day, clean.happened_at, clean.transaction_id
