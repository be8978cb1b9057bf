-- transaction_features: what was known about each transaction at the moment it happened.
-- Grain: one row a clean transaction. Key: transaction_id. Order: day, happened_at, transaction_id.
-- Days needed: see batch_assets.fraud.features.days_read(first_day, last_day).
--
-- Windows (UTC, to the microsecond, everything of the same instant included):
--   customer  (t - w, t]            w = 1, 7, 30 days
--   terminal  (t - 7 d - w, t - 7 d], the 7 days a fraud label takes to arrive
-- "The others" of a window are its transactions but for the scored one; "earlier" ones happened
-- before its instant. A fraud counts once it is 7 days old and from the day its label is known.
--
-- A window's ends fall on few UTC days: 0, 1, 7, 8, 14, 30, 37 days before the scored one. Rows of
-- these edge days are put in order of time and summed over RANGE frames. The days between them are
-- wholly inside or wholly outside each window of every scored row: of them, only totals are read
-- and added. So what a day costs does not grow with the window, and in a long range, where every
-- day is an edge day of some other, each row is read once.
--
-- All that is summed is a whole number: hundredths of the currency, or microseconds. A feature is
-- made of these in one expression, so that no order of rows or cut of days changes a bit of it.
WITH scored AS (
    SELECT
        transaction_id,
        customer_id,
        terminal_id,
        happened_at,
        amount,
        (isodow(local_time) >= 6)::TINYINT AS during_weekend,
        (hour(local_time) <= 6)::TINYINT AS during_night,
        day
    FROM clean_transactions
    WHERE day BETWEEN $first_day AND $last_day
),

-- Grain: a row of an earlier edge day.
earlier AS (
    SELECT
        customer_id,
        terminal_id,
        happened_at,
        amount,
        day
    FROM clean_transactions
    WHERE
        day < $first_day
        AND (
            day BETWEEN $first_day - 37 AND $last_day - 37
            OR day BETWEEN $first_day - 30 AND $last_day - 30
            OR day BETWEEN $first_day - 14 AND $last_day - 14
            OR day BETWEEN $first_day - 8 AND $last_day - 7
            OR day BETWEEN $first_day - 1 AND $last_day - 1
        )
),

-- Grain: a fraud that may be known. ``excess`` is its amount over the mean of what else its customer
-- paid on that day and the six after it, in thousandths, at most 10: all of that is past when the
-- fraud counts. A compromised terminal shows frauds of usual amounts, a stolen card large ones.
frauds AS (
    SELECT
        fraud.*,
        greatest(-10_000, least(10_000, coalesce(
            1_000 * (fraud.amount::DECIMAL(38, 2) * 100)::HUGEINT * (spent.tx_count - 1)::HUGEINT
            // nullif(((spent.amount_sum - fraud.amount) * 100)::HUGEINT, 0),
            1_000
        ))) AS excess
    FROM (SELECT * FROM terminal_frauds WHERE day BETWEEN $first_day - 37 AND $last_day - 7) AS fraud
    JOIN (
        SELECT week.transaction_id, sum(tx_count) AS tx_count, sum(amount_sum) AS amount_sum
        FROM (
            SELECT transaction_id, customer_id, day + unnest(range(7))::INTEGER AS day
            FROM terminal_frauds
            WHERE day BETWEEN $first_day - 37 AND $last_day - 7
        ) AS week
        JOIN customer_days
            ON week.customer_id = customer_days.customer_id AND week.day = customer_days.day
        GROUP BY week.transaction_id
    ) AS spent ON fraud.transaction_id = spent.transaction_id
),

-- Grain: a step of the numbers of known frauds in the windows: up in all when a fraud enters, down
-- in each when it leaves, neither before its label is known. Known only after it left: up and down
-- at one instant, which a RANGE frame sees as one. ``frauds`` is the three numbers in one integer:
-- 1 d + 2^40 * 7 d + 2^80 * 30 d, taken apart with the totals; ``excess`` is that of 30 d and the number
-- of frauds of usual amounts, excess + 2^64 * number. What stepped before the first scored day, does
-- at its begin.
fraud_steps AS (
    SELECT
        customer_id,
        terminal_id,
        greatest(happened_at + to_days(after_days), known_on::TIMESTAMP, $first_day::TIMESTAMP)
            AS happened_at,
        frauds,
        CASE after_days WHEN 7 THEN 1 WHEN 37 THEN -1 ELSE 0 END
            * (excess + ((excess <= 1_500)::HUGEINT << 64)) AS excess,
        CASE after_days WHEN 7 THEN happened_at END AS fraud_at
    FROM frauds
    CROSS JOIN (
        VALUES
            (7, 1 + (1::HUGEINT << 40) + (1::HUGEINT << 80)),
            (8, -1),
            (14, -(1::HUGEINT << 40)),
            (37, -(1::HUGEINT << 80))
    ) AS steps (after_days, frauds)
    WHERE greatest(happened_at + to_days(after_days), known_on::TIMESTAMP) < $last_day + 1
),

-- Grain: a terminal, a scored day (today) and a day with frauds there that are known today.
terminal_fraud_days AS (
    SELECT visited.terminal_id, visited.today, frauds.day, count(*) AS frauds
    FROM (SELECT DISTINCT terminal_id, day AS today FROM scored) AS visited
    JOIN frauds
        ON visited.terminal_id = frauds.terminal_id
        AND frauds.day BETWEEN visited.today - 37 AND visited.today - 8
        AND frauds.known_on <= visited.today
    GROUP BY ALL
),

-- Grain: a terminal and scored day. ``clean_day`` is the last one with a transaction that is not
-- known as fraud.
terminal_clean_days AS (
    SELECT visited.terminal_id, visited.today, max(terminal_days.day) AS clean_day
    FROM (SELECT DISTINCT terminal_id, today FROM terminal_fraud_days) AS visited
    JOIN terminal_days
        ON visited.terminal_id = terminal_days.terminal_id
        AND terminal_days.day BETWEEN visited.today - 37 AND visited.today - 8
    LEFT JOIN terminal_fraud_days AS known
        ON visited.terminal_id = known.terminal_id
        AND visited.today = known.today
        AND terminal_days.day = known.day
    WHERE terminal_days.tx_count > coalesce(known.frauds, 0)
    GROUP BY ALL
),

-- Grain: a terminal and scored day, where only frauds happened since the clean day. In days, for
-- when a run of frauds began tells when it may end.
terminal_runs AS (
    SELECT
        known.terminal_id,
        known.today,
        known.today - min(known.day) AS run_days,
        coalesce(known.today - any_value(clean.clean_day), 37) AS clean_days
    FROM terminal_fraud_days AS known
    LEFT JOIN terminal_clean_days AS clean
        ON known.terminal_id = clean.terminal_id AND known.today = clean.today
    WHERE clean.clean_day IS NULL OR known.day > clean.clean_day
    GROUP BY known.terminal_id, known.today
),

-- Grain: a scored row, a row of an earlier edge day (without id), or a step.
-- ``spent`` is number and amount in one integer, number * 2^90 + hundredths: a window then needs one
-- exact sum, not two. Taken apart in customer_totals. ``capped`` as in customer_days.
customer_events AS (
    SELECT
        *,
        (amount::DECIMAL(38, 2) * 100)::HUGEINT AS hundredths,
        (1::HUGEINT << 90) + hundredths AS spent,
        least(abs(hundredths), 1_000_000_000_000) AS capped,
        capped * capped AS square
    FROM (
        SELECT * FROM scored
        UNION ALL BY NAME
        SELECT customer_id, happened_at, amount
        FROM earlier
        WHERE day >= $first_day - 30 AND customer_id IN (SELECT customer_id FROM scored)
    )
    UNION ALL BY NAME
    SELECT
        customer_id,
        happened_at,
        sum(frauds) AS frauds,
        max(fraud_at) AS fraud_at
    FROM fraud_steps
    WHERE customer_id IN (SELECT customer_id FROM scored)
    GROUP BY customer_id, happened_at
),

-- Grain: a customer, with the totals of the days between the edges that are in each window.
customer_whole_days AS (
    SELECT
        customer_id,
        sum((tx_count::HUGEINT << 90) + (amount_sum * 100)::HUGEINT)
            FILTER (day > $last_day - 7) AS spent_7d,
        sum((tx_count::HUGEINT << 90) + (amount_sum * 100)::HUGEINT) AS spent_30d,
        sum(amount_squares::HUGEINT) AS squares_30d,
        max(amount_max) FILTER (day > $last_day - 7) AS max_7d,
        max(amount_max) AS max_30d
    FROM customer_days
    WHERE
        day BETWEEN $last_day - 29 AND $first_day - 15
        OR day BETWEEN $last_day - 13 AND $first_day - 9
        OR day BETWEEN $last_day - 6 AND $first_day - 2
    GROUP BY customer_id
),

customer_sums AS (
    SELECT
        * EXCLUDE (spent, capped, frauds, fraud_at),
        sum(spent) OVER window_1d AS spent_1d,
        sum(spent) OVER window_7d AS spent_7d,
        sum(spent) OVER window_30d AS spent_30d,
        sum(square) OVER window_30d AS squares_30d,
        max(amount) OVER earlier_7d AS max_7d,
        max(amount) OVER earlier_30d AS max_30d,
        sum(frauds) OVER so_far AS frauds,
        max(fraud_at) OVER so_far AS fraud_at
    FROM customer_events
    WINDOW
        window_1d AS (
            PARTITION BY customer_id ORDER BY happened_at
            RANGE BETWEEN INTERVAL '23:59:59.999999' PRECEDING AND CURRENT ROW
        ),
        window_7d AS (
            PARTITION BY customer_id ORDER BY happened_at
            RANGE BETWEEN INTERVAL '6 DAYS 23:59:59.999999' PRECEDING AND CURRENT ROW
        ),
        window_30d AS (
            PARTITION BY customer_id ORDER BY happened_at
            RANGE BETWEEN INTERVAL '29 DAYS 23:59:59.999999' PRECEDING AND CURRENT ROW
        ),
        earlier_7d AS (
            PARTITION BY customer_id ORDER BY happened_at
            RANGE BETWEEN INTERVAL '6 DAYS 23:59:59.999999' PRECEDING
            AND INTERVAL '00:00:00.000001' PRECEDING
        ),
        earlier_30d AS (
            PARTITION BY customer_id ORDER BY happened_at
            RANGE BETWEEN INTERVAL '29 DAYS 23:59:59.999999' PRECEDING
            AND INTERVAL '00:00:00.000001' PRECEDING
        ),
        so_far AS (
            PARTITION BY customer_id ORDER BY happened_at
            RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        )
),

-- Half of 2^90 is added before the shift so that amounts below zero, too, leave the number right.
-- ``other_`` is without the scored row.
customer_totals AS (
    SELECT
        scored.* EXCLUDE (
            spent_1d, spent_7d, spent_30d, square, squares_30d, max_7d, max_30d, frauds
        ),
        scored.spent_1d AS all_1d,
        scored.spent_7d + coalesce(whole_days.spent_7d, 0) AS all_7d,
        scored.spent_30d + coalesce(whole_days.spent_30d, 0) AS all_30d,
        (all_1d + (1::HUGEINT << 89)) >> 90 AS count_1d,
        (all_7d + (1::HUGEINT << 89)) >> 90 AS count_7d,
        (all_30d + (1::HUGEINT << 89)) >> 90 AS count_30d,
        all_1d - (count_1d << 90) AS hundredths_1d,
        all_7d - (count_7d << 90) AS hundredths_7d,
        all_30d - (count_30d << 90) AS hundredths_30d,
        (hundredths_7d - hundredths)::DOUBLE / nullif(100 * (count_7d - 1), 0)::DOUBLE
            AS other_mean_7d,
        (hundredths_30d - hundredths)::DOUBLE / nullif(100 * (count_30d - 1), 0)::DOUBLE
            AS other_mean_30d,
        (hundredths_30d - hundredths_7d)::DOUBLE / nullif(100 * (count_30d - count_7d), 0)::DOUBLE
            AS mean_before_7d,
        count_30d - 1 AS other_count_30d,
        -- As if capped, like the squares: whole numbers whose difference is exact.
        other_count_30d * 1_000_000_000_000 AS most_30d,
        greatest(-most_30d, least(most_30d, hundredths_30d - hundredths)) AS other_sum_30d,
        sqrt(
            greatest(
                other_count_30d * (scored.squares_30d + coalesce(whole_days.squares_30d, 0) - square)
                - other_sum_30d * other_sum_30d,
                0
            )::DOUBLE
        ) / nullif(100 * other_count_30d, 0)::DOUBLE AS other_spread_30d,
        greatest(scored.max_7d, whole_days.max_7d)::DOUBLE AS max_7d,
        greatest(scored.max_30d, whole_days.max_30d)::DOUBLE AS max_30d,
        coalesce(scored.frauds, 0) >> 80 AS frauds_30d
    FROM (SELECT * FROM customer_sums WHERE transaction_id IS NOT NULL) AS scored
    LEFT JOIN customer_whole_days AS whole_days ON scored.customer_id = whole_days.customer_id
),

-- Grain: as customer_events. Each mean is one division of exact numbers.
terminal_events AS (
    SELECT
        transaction_id,
        customer_id,
        terminal_id,
        happened_at,
        1 AS tx_count,
        happened_at AS paid_at,
        amount::DOUBLE AS amount,
        during_weekend,
        during_night,
        count_1d::INTEGER AS customer_tx_count_1d,
        count_7d::INTEGER AS customer_tx_count_7d,
        count_30d::INTEGER AS customer_tx_count_30d,
        hundredths_1d::DOUBLE / (100 * count_1d)::DOUBLE AS customer_amount_mean_1d,
        hundredths_7d::DOUBLE / (100 * count_7d)::DOUBLE AS customer_amount_mean_7d,
        hundredths_30d::DOUBLE / (100 * count_30d)::DOUBLE AS customer_amount_mean_30d,
        coalesce(amount::DOUBLE / nullif(other_mean_7d, 0), 1) AS customer_amount_ratio_7d,
        coalesce(amount::DOUBLE / nullif(other_mean_30d, 0), 1) AS customer_amount_ratio_30d,
        coalesce(amount::DOUBLE / nullif(mean_before_7d, 0), 1) AS customer_amount_ratio_before_7d,
        coalesce(other_spread_30d, 0) AS customer_amount_spread_30d,
        coalesce(
            (amount::DOUBLE - other_mean_30d) / nullif(
                sqrt(
                    (other_count_30d::DOUBLE * other_spread_30d ** 2 + other_mean_30d ** 2)
                    / count_30d::DOUBLE
                ),
                0
            ),
            0
        ) AS customer_amount_deviation_30d,
        coalesce(amount::DOUBLE / nullif(max_30d, 0), 1) AS customer_max_ratio_30d,
        coalesce(max_7d / nullif(other_mean_30d, 0), 1) AS customer_peak_7d,
        frauds_30d::INTEGER AS customer_fraud_count_30d,
        CASE
            WHEN fraud_at > happened_at - INTERVAL 37 DAYS
                THEN (epoch_us(happened_at) - epoch_us(fraud_at))::DOUBLE / 86_400_000_000::DOUBLE
            ELSE 37
        END AS customer_days_since_fraud,
        day
    FROM customer_totals
    UNION ALL BY NAME
    SELECT
        terminal_id,
        happened_at,
        1 AS tx_count,
        happened_at AS paid_at
    FROM earlier
    WHERE day <= $last_day - 7 AND terminal_id IN (SELECT terminal_id FROM scored)
    UNION ALL BY NAME
    SELECT
        terminal_id,
        happened_at,
        sum(frauds) AS frauds,
        sum(excess) AS excess,
        max(fraud_at) AS fraud_at
    FROM fraud_steps
    WHERE terminal_id IN (SELECT terminal_id FROM scored)
    GROUP BY terminal_id, happened_at
),

-- Grain: a terminal, as customer_whole_days.
terminal_whole_days AS (
    SELECT
        terminal_id,
        sum(tx_count) FILTER (day > $last_day - 14) AS count_7d,
        sum(tx_count) AS count_30d,
        max(last_at) AS settled_at
    FROM terminal_days
    WHERE
        day BETWEEN $last_day - 36 AND $first_day - 31
        OR day BETWEEN $last_day - 29 AND $first_day - 15
        OR day BETWEEN $last_day - 13 AND $first_day - 9
    GROUP BY terminal_id
),

terminal_sums AS (
    SELECT
        * EXCLUDE (tx_count, paid_at, frauds, excess, fraud_at),
        sum(tx_count) OVER window_1d AS count_1d,
        sum(tx_count) OVER window_7d AS count_7d,
        sum(tx_count) OVER window_30d AS count_30d,
        max(paid_at) OVER window_30d AS settled_at,
        sum(frauds) OVER so_far AS frauds,
        sum(excess) OVER so_far AS excess,
        max(fraud_at) OVER so_far AS fraud_at
    FROM terminal_events
    WINDOW
        window_1d AS (
            PARTITION BY terminal_id ORDER BY happened_at
            RANGE BETWEEN INTERVAL '7 DAYS 23:59:59.999999' PRECEDING AND INTERVAL 7 DAYS PRECEDING
        ),
        window_7d AS (
            PARTITION BY terminal_id ORDER BY happened_at
            RANGE BETWEEN INTERVAL '13 DAYS 23:59:59.999999' PRECEDING AND INTERVAL 7 DAYS PRECEDING
        ),
        window_30d AS (
            PARTITION BY terminal_id ORDER BY happened_at
            RANGE BETWEEN INTERVAL '36 DAYS 23:59:59.999999' PRECEDING AND INTERVAL 7 DAYS PRECEDING
        ),
        so_far AS (
            PARTITION BY terminal_id ORDER BY happened_at
            RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        )
),

terminal_totals AS (
    SELECT
        scored.* EXCLUDE (
            count_1d, count_7d, count_30d, settled_at, frauds, excess
        ),
        coalesce(scored.count_1d, 0) AS count_1d,
        coalesce(scored.count_7d, 0) + coalesce(whole_days.count_7d, 0) AS count_7d,
        coalesce(scored.count_30d, 0) + coalesce(whole_days.count_30d, 0) AS count_30d,
        greatest(scored.settled_at, whole_days.settled_at) AS settled_at,
        coalesce(scored.frauds, 0) & ((1::HUGEINT << 40) - 1) AS frauds_1d,
        (coalesce(scored.frauds, 0) >> 40) & ((1::HUGEINT << 40) - 1) AS frauds_7d,
        coalesce(scored.frauds, 0) >> 80 AS frauds_30d,
        (coalesce(scored.excess, 0) + (1::HUGEINT << 63)) >> 64 AS usual_frauds_30d,
        coalesce(scored.excess, 0) - (usual_frauds_30d << 64) AS excess_30d,
        fraud_at > happened_at - INTERVAL 37 DAYS AS after_fraud,
        coalesce(runs.run_days, 0) AS run_days,
        coalesce(runs.clean_days, 0) AS clean_days
    FROM (SELECT * FROM terminal_sums WHERE transaction_id IS NOT NULL) AS scored
    LEFT JOIN terminal_whole_days AS whole_days ON scored.terminal_id = whole_days.terminal_id
    LEFT JOIN terminal_runs AS runs
        ON scored.terminal_id = runs.terminal_id AND scored.day = runs.today
)

SELECT
    transaction_id,
    customer_id,
    terminal_id,
    happened_at,
    amount,
    during_weekend::INTEGER AS during_weekend,
    during_night::INTEGER AS during_night,
    customer_tx_count_1d,
    customer_tx_count_7d,
    customer_tx_count_30d,
    customer_amount_mean_1d,
    customer_amount_mean_7d,
    customer_amount_mean_30d,
    count_1d::INTEGER AS terminal_tx_count_1d,
    count_7d::INTEGER AS terminal_tx_count_7d,
    count_30d::INTEGER AS terminal_tx_count_30d,
    coalesce(frauds_1d::DOUBLE / nullif(count_1d, 0)::DOUBLE, 0) AS terminal_fraud_share_1d,
    coalesce(frauds_7d::DOUBLE / nullif(count_7d, 0)::DOUBLE, 0) AS terminal_fraud_share_7d,
    coalesce(frauds_30d::DOUBLE / nullif(count_30d, 0)::DOUBLE, 0) AS terminal_fraud_share_30d,
    customer_amount_ratio_7d,
    customer_amount_ratio_30d,
    customer_amount_ratio_before_7d,
    customer_amount_spread_30d,
    customer_amount_deviation_30d,
    customer_max_ratio_30d,
    customer_peak_7d,
    customer_fraud_count_30d,
    customer_days_since_fraud,
    frauds_30d::INTEGER AS terminal_fraud_count_30d,
    usual_frauds_30d::INTEGER AS terminal_usual_fraud_count_30d,
    coalesce(excess_30d::DOUBLE / nullif(1_000 * frauds_30d, 0)::DOUBLE, 0)
        AS terminal_fraud_excess_30d,
    CASE
        WHEN after_fraud
            THEN (epoch_us(happened_at) - epoch_us(fraud_at))::DOUBLE / 86_400_000_000::DOUBLE
        ELSE 37
    END AS terminal_days_since_fraud,
    CASE
        WHEN after_fraud
            THEN (epoch_us(settled_at) - epoch_us(fraud_at))::DOUBLE / 86_400_000_000::DOUBLE
        ELSE 37
    END AS terminal_days_clean,
    run_days::INTEGER AS terminal_fraud_run_days,
    clean_days::INTEGER AS terminal_fraud_run_days_at_most,
    day
FROM terminal_totals
ORDER BY day, happened_at, transaction_id
