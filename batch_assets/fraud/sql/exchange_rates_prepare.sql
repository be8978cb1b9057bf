-- Prepares exchange_rates and quarantined_rates: of several rates of a currency and day the first
-- delivered counts, or the last one of a feed that replaces.
-- Views: raw_exchange_rates, feed_rules.
CREATE OR REPLACE TEMP VIEW ranked_rates AS
WITH delivered AS (
    SELECT
        r.*,
        f.replaces,
        row_number() OVER (PARTITION BY r.happened_on, r.currency ORDER BY r.day, r.file, r.row_number) AS turn
    FROM raw_exchange_rates AS r
    LEFT JOIN feed_rules AS f ON f.feed = r.feed
    WHERE len(r.problems) = 0
),
verdicts AS (
    SELECT happened_on, currency, coalesce(max(turn) FILTER (replaces), 1) AS winner
    FROM delivered
    GROUP BY happened_on, currency
)
SELECT
    d.*,
    v.winner,
    first_value(d.rate) OVER (
        PARTITION BY d.happened_on, d.currency ORDER BY d.turn = v.winner DESC
    ) AS winning_rate
FROM delivered AS d
JOIN verdicts AS v USING (happened_on, currency)
