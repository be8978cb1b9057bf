-- Grain: record of a file that repeats, or was replaced by, another. Key: file, row_number.
-- Views: priced, fates (see clean_prepare.sql).
SELECT
    p.transaction_id,
    p.feed,
    p.region,
    p.file,
    p.row_number,
    f.fate = 'superseded' AS superseded,
    f.kept_file,
    f.kept_row_number,
    p.day AS arrived_on,
    p.happened_on AS day
FROM priced AS p
JOIN fates AS f ON f.file = p.file AND f.row_number = p.row_number
WHERE f.fate <> 'conflict' AND p.happened_on BETWEEN $first_day AND $last_day
