-- Grain: day and reason, the values in it left out. View: quarantined_transactions.
WITH reasons AS (
    SELECT
        day,
        unnest(reasons) AS reason,
        file || ', record ' || row_number AS origin
    FROM quarantined_transactions
)
SELECT
    day,
    regexp_replace(regexp_replace(reason, '''[^'']*''', '''…''', 'g'), ' in [^ ]+, record \d+', ' elsewhere') AS reason,
    count(*) AS records,
    min(origin) AS example
FROM reasons
GROUP BY ALL
ORDER BY day, records DESC, reason
