-- Grain: currency and day. Key: day, currency. The last rate published in the rate_max_age_days before.
-- View: ranked_rates (see exchange_rates_prepare.sql).
WITH days AS (
    SELECT unnest(generate_series($first_day, $last_day, INTERVAL 1 DAY))::DATE AS day
)
SELECT
    r.currency,
    max_by(r.rate, r.happened_on) AS rate,
    max(r.happened_on) AS published_on,
    d.day
FROM days AS d
JOIN ranked_rates AS r ON r.happened_on BETWEEN d.day - $rate_max_age_days::INTEGER AND d.day
WHERE r.turn = r.winner
GROUP BY d.day, r.currency
