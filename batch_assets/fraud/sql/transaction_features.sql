-- transaction_features: what was known about each transaction at the moment it happened.
-- Grain: one row a clean transaction. Key: transaction_id. Order: day, happened_at, transaction_id.
-- Days needed: see batch_assets.fraud.features.days_read(first_day, last_day).
--
-- Windows (UTC, to the microsecond, everything of the same instant included):
--   customer  (t - w, t]            w = 1, 7, 30 days
--   terminal  (t - 7 d - w, t - 7 d], the 7 days a fraud label takes to arrive
-- A fraud counts in a terminal window from the day its label is known.
--
-- One stream of events per customer, then one per terminal, each ordered by time and summed over
-- RANGE frames. A window's ends fall on few UTC days (for customers: its own, and 1, 7, 30 days
-- before; for terminals: 7, 8, 14, 37 days before). Rows of those edge days go in one by one. The
-- days between them are wholly inside or wholly outside each window of every scored row, so their
-- totals go in as one event, on any one of those days: what a day costs does not grow with the
-- window. In a long range every day is an edge day of some scored day, and each row goes in once.
with scored as (
    select
        transaction_id,
        customer_id,
        terminal_id,
        happened_at,
        amount,
        (isodow(local_time) >= 6)::tinyint as during_weekend,
        (hour(local_time) <= 6)::tinyint as during_night,
        day
    from clean_transactions
    where day between $first_day and $last_day
),

-- Grain: a scored row, a row of an edge day, or the total of the days between two edges.
-- Sums are in hundredths, as integers, so that they are exact in whatever order they are made.
customer_events as (
    select
        customer_id,
        happened_at,
        1 as tx_count,
        (amount * 100)::bigint as hundredths,
        transaction_id,
        terminal_id,
        amount,
        during_weekend,
        during_night,
        day
    from scored
    union all by name
    select
        customer_id,
        happened_at,
        1 as tx_count,
        (amount * 100)::bigint as hundredths
    from clean_transactions
    where
        day < $first_day
        and (
            day between $first_day - 30 and $last_day - 30
            or day between $first_day - 7 and $last_day - 7
            or day between $first_day - 1 and $last_day - 1
        )
        and customer_id in (select customer_id from scored)
    union all by name
    select
        customer_id,
        max(day) as happened_at,
        sum(tx_count)::integer as tx_count,
        (sum(amount_sum) * 100)::hugeint as hundredths
    from customer_days
    where
        (
            day between $last_day - 29 and $first_day - 8
            or day between $last_day - 6 and $first_day - 2
        )
        and customer_id in (select customer_id from scored)
    group by customer_id, day > $last_day - 7
),

customer_sums as (
    select
        transaction_id,
        customer_id,
        terminal_id,
        happened_at,
        amount,
        during_weekend,
        during_night,
        day,
        sum(tx_count) over window_1d as count_1d,
        sum(tx_count) over window_7d as count_7d,
        sum(tx_count) over window_30d as count_30d,
        sum(hundredths) over window_1d as hundredths_1d,
        sum(hundredths) over window_7d as hundredths_7d,
        sum(hundredths) over window_30d as hundredths_30d
    from customer_events
    window
        window_1d as (
            partition by customer_id order by happened_at
            range between interval '23:59:59.999999' preceding and current row
        ),
        window_7d as (
            partition by customer_id order by happened_at
            range between interval '6 days 23:59:59.999999' preceding and current row
        ),
        window_30d as (
            partition by customer_id order by happened_at
            range between interval '29 days 23:59:59.999999' preceding and current row
        )
),

-- Grain: a fraud, with the first instant at which a scored row may know of it.
frauds as (
    select
        terminal_id,
        happened_at,
        greatest(happened_at + interval 7 days, known_on::timestamp) as known_at
    from terminal_frauds
    where
        day between $first_day - 37 and $last_day - 7
        and terminal_id in (select terminal_id from scored)
),

-- Grain: a step of the number of known frauds in a terminal's window: up when one is known, down
-- when it has left. Known only after it left: both at one instant, which a RANGE frame sees as one.
fraud_steps as (
    select
        terminal_id,
        known_at as happened_at,
        1 as frauds_1d,
        1 as frauds_7d,
        1 as frauds_30d
    from frauds
    union all by name
    select
        terminal_id,
        greatest(happened_at + interval 8 days, known_at) as happened_at,
        -1 as frauds_1d
    from frauds
    union all by name
    select
        terminal_id,
        greatest(happened_at + interval 14 days, known_at) as happened_at,
        -1 as frauds_7d
    from frauds
    union all by name
    select
        terminal_id,
        greatest(happened_at + interval 37 days, known_at) as happened_at,
        -1 as frauds_30d
    from frauds
),

-- Grain: as customer_events, and the fraud steps. Each mean is one division of exact numbers.
terminal_events as (
    select
        transaction_id,
        customer_id,
        terminal_id,
        happened_at,
        1 as tx_count,
        amount::double as amount,
        during_weekend,
        during_night,
        count_1d::integer as customer_tx_count_1d,
        count_7d::integer as customer_tx_count_7d,
        count_30d::integer as customer_tx_count_30d,
        hundredths_1d::double / (100 * count_1d)::double as customer_amount_mean_1d,
        hundredths_7d::double / (100 * count_7d)::double as customer_amount_mean_7d,
        hundredths_30d::double / (100 * count_30d)::double as customer_amount_mean_30d,
        day
    from customer_sums
    where transaction_id is not null
    union all by name
    select
        terminal_id,
        happened_at,
        1 as tx_count
    from clean_transactions
    where
        day < $first_day
        and (
            day between $first_day - 37 and $last_day - 37
            or day between $first_day - 14 and $last_day - 14
            or day between $first_day - 8 and $last_day - 7
        )
        and terminal_id in (select terminal_id from scored)
    union all by name
    select
        terminal_id,
        max(day) as happened_at,
        sum(tx_count)::integer as tx_count
    from terminal_days
    where
        (
            day between $last_day - 36 and $first_day - 15
            or day between $last_day - 13 and $first_day - 9
        )
        and terminal_id in (select terminal_id from scored)
    group by terminal_id, day > $last_day - 14
    union all by name
    select * from fraud_steps
),

terminal_sums as (
    select
        * exclude (tx_count, frauds_1d, frauds_7d, frauds_30d),
        sum(tx_count) over window_1d as count_1d,
        sum(tx_count) over window_7d as count_7d,
        sum(tx_count) over window_30d as count_30d,
        sum(frauds_1d) over so_far as frauds_1d,
        sum(frauds_7d) over so_far as frauds_7d,
        sum(frauds_30d) over so_far as frauds_30d
    from terminal_events
    window
        window_1d as (
            partition by terminal_id order by happened_at
            range between interval '7 days 23:59:59.999999' preceding and interval 7 days preceding
        ),
        window_7d as (
            partition by terminal_id order by happened_at
            range between interval '13 days 23:59:59.999999' preceding and interval 7 days preceding
        ),
        window_30d as (
            partition by terminal_id order by happened_at
            range between interval '36 days 23:59:59.999999' preceding and interval 7 days preceding
        ),
        so_far as (
            partition by terminal_id order by happened_at
            range between unbounded preceding and current row
        )
)

select
    transaction_id,
    customer_id,
    terminal_id,
    happened_at,
    amount,
    during_weekend::integer as during_weekend,
    during_night::integer as during_night,
    customer_tx_count_1d,
    customer_tx_count_7d,
    customer_tx_count_30d,
    customer_amount_mean_1d,
    customer_amount_mean_7d,
    customer_amount_mean_30d,
    coalesce(count_1d, 0)::integer as terminal_tx_count_1d,
    coalesce(count_7d, 0)::integer as terminal_tx_count_7d,
    coalesce(count_30d, 0)::integer as terminal_tx_count_30d,
    coalesce(frauds_1d::double / nullif(count_1d, 0)::double, 0) as terminal_fraud_share_1d,
    coalesce(frauds_7d::double / nullif(count_7d, 0)::double, 0) as terminal_fraud_share_7d,
    coalesce(frauds_30d::double / nullif(count_30d, 0)::double, 0) as terminal_fraud_share_30d,
    day
from terminal_sums
where transaction_id is not null
order by day, happened_at, transaction_id
