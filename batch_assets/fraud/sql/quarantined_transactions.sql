-- Grain: record of a file that cannot be used, with every reason. Key: file, row_number (0 may repeat).
-- Views: priced, fates (see clean_prepare.sql).
SELECT
    p.feed,
    p.region,
    p.file,
    p.row_number,
    p.transaction_id,
    p.customer_id,
    p.terminal_id,
    p.amount_text,
    p.currency_text,
    p.time_text,
    p.label_text,
    p.rate_text,
    p.other,
    p.line,
    p.happened_at,
    p.local_time,
    p.amount,
    p.currency,
    CASE
        WHEN len(p.reasons) > 0 THEN p.reasons
        ELSE ['the key was delivered with other content in ' || f.kept_file || ', record ' || f.kept_row_number
            || '; say corrections: replace if this feed corrects itself']
    END AS reasons,
    p.day AS arrived_on,
    p.happened_on AS day
FROM priced AS p
LEFT JOIN fates AS f ON f.file = p.file AND f.row_number = p.row_number AND f.fate = 'conflict'
WHERE (len(p.reasons) > 0 OR f.fate IS NOT NULL) AND p.happened_on BETWEEN $first_day AND $last_day
