-- Keys whose usable records stand on more than one day. Grain: key, day it happened, day of arrival.
-- Views: fresh_records (raw of the days of arrival in question), all_records (raw of all days).
WITH fresh AS (
    SELECT hash(transaction_id) AS key_hash, transaction_id, happened_on, day
    FROM fresh_records
    WHERE len(problems) = 0
),
every AS (
    SELECT hash(transaction_id) AS key_hash, transaction_id, happened_on
    FROM all_records
    WHERE len(problems) = 0
),
suspects AS (
    SELECT e.key_hash
    FROM every AS e
    SEMI JOIN fresh AS f ON f.key_hash = e.key_hash
    GROUP BY e.key_hash
    HAVING min(e.happened_on) <> max(e.happened_on)
),
pairs AS (
    SELECT f.transaction_id, f.day, f.happened_on AS fresh_day, e.happened_on AS other_day
    FROM fresh AS f
    SEMI JOIN suspects AS s ON s.key_hash = f.key_hash
    JOIN every AS e ON e.transaction_id = f.transaction_id AND e.happened_on <> f.happened_on
)
SELECT DISTINCT transaction_id, unnest([fresh_day, other_day]) AS happened_on, day
FROM pairs
