-- Files and days whose records are not all accounted for; no row is right.
-- Views: raw_transactions, clean_transactions, quarantined_transactions, duplicate_transactions.
WITH delivered AS (
    SELECT happened_on AS day, file, count(*) AS records
    FROM raw_transactions
    GROUP BY ALL
),
accounted AS (
    SELECT day, file, count(*) AS records
    FROM (
        SELECT day, file FROM clean_transactions
        UNION ALL
        SELECT day, file FROM quarantined_transactions
        UNION ALL
        SELECT day, file FROM duplicate_transactions
    )
    GROUP BY ALL
)
SELECT
    day,
    file,
    coalesce(d.records, 0) AS records_in,
    coalesce(a.records, 0) AS accounted_for
FROM delivered AS d
FULL JOIN accounted AS a USING (day, file)
WHERE d.records IS DISTINCT FROM a.records
