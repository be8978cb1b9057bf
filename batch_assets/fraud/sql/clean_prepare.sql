-- Prepares the three statements that follow (clean, quarantined, duplicate); several statements.
-- Views: raw_of_these_days, raw_of_other_days, repeated (keys of these days that stand on other days
--        too), exchange_rates of all these days, feed_rules(feed, replaces, label_delay_days).
-- Variable: reporting_currency.
CREATE OR REPLACE TEMP VIEW raw_transactions AS
SELECT * FROM raw_of_these_days
UNION ALL BY NAME
SELECT o.* FROM raw_of_other_days AS o SEMI JOIN repeated AS r ON r.transaction_id = o.transaction_id;

CREATE OR REPLACE TEMP VIEW priced AS
WITH rated AS (
    SELECT
        r.*,
        CASE WHEN r.currency = getvariable('reporting_currency') THEN 1.0::DECIMAL(18, 10) ELSE x.rate END
            AS exchange_rate
    FROM raw_transactions AS r
    LEFT JOIN exchange_rates AS x ON x.currency = r.currency AND x.day = r.happened_on
),
-- Two decimals of 18 digits are multiplied in 18 digits, too: the product needs the 38 of a wider one.
converted AS (
    SELECT
        *,
        try_cast(round(amount::DECIMAL(28, 4) * exchange_rate, 2) AS DECIMAL(18, 2)) AS converted_amount
    FROM rated
)
SELECT
    *,
    CASE
        WHEN len(problems) > 0 THEN problems
        WHEN exchange_rate IS NULL
            THEN ['there is no exchange rate for ' || currency || ' on ' || happened_on || ' nor shortly before']
        WHEN converted_amount IS NULL THEN ['the amount ' || amount_text || ' is too large']
        ELSE []
    END AS reasons
FROM converted;

-- Keys are compared by hash first: almost all stand alone, and hashes are small.
CREATE OR REPLACE TEMP TABLE suspects AS
SELECT hash(transaction_id) AS key_hash
FROM priced
WHERE len(reasons) = 0
GROUP BY key_hash
HAVING count(*) > 1;

-- Of several deliveries of a key the first counts, or the last one of a feed that replaces;
-- the row that counts is the first one with that content.
CREATE OR REPLACE TEMP TABLE fates AS
WITH contested AS (
    SELECT
        p.transaction_id,
        p.happened_on,
        p.file,
        p.row_number,
        f.replaces,
        concat_ws(chr(31), p.customer_id, p.terminal_id, p.amount, p.currency, p.happened_at) AS content,
        row_number() OVER (PARTITION BY p.transaction_id ORDER BY p.day, p.file, p.row_number) AS turn
    FROM priced AS p
    SEMI JOIN suspects AS s ON s.key_hash = hash(p.transaction_id)
    LEFT JOIN feed_rules AS f ON f.feed = p.feed
    WHERE len(p.reasons) = 0
),
verdicts AS (
    SELECT
        transaction_id,
        coalesce(max_by(content, turn) FILTER (replaces AND turn > 1), min_by(content, turn)) AS content,
        coalesce(max(turn) FILTER (replaces AND turn > 1), 0) AS last_replacement
    FROM contested
    GROUP BY transaction_id
),
winners AS (
    SELECT c.transaction_id, min_by({'file': c.file, 'row_number': c.row_number}, c.turn) AS kept
    FROM contested AS c
    JOIN verdicts AS v ON v.transaction_id = c.transaction_id AND v.content = c.content
    GROUP BY c.transaction_id
)
SELECT
    c.happened_on,
    c.file,
    c.row_number,
    w.kept.file AS kept_file,
    w.kept.row_number AS kept_row_number,
    CASE
        WHEN c.content = v.content THEN 'duplicate'
        WHEN c.turn < v.last_replacement THEN 'superseded'
        ELSE 'conflict'
    END AS fate
FROM contested AS c
JOIN verdicts AS v USING (transaction_id)
JOIN winners AS w USING (transaction_id)
WHERE NOT (c.file = w.kept.file AND c.row_number = w.kept.row_number)
