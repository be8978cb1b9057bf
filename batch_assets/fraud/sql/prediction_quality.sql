-- How good the scores of a day were, once its labels are known: until then the measures are null.
-- Rows of customers who were known as compromised before the day began are left out, as in the Fraud
-- Detection Handbook; ``known`` means: of a fraud of the 30 days before, by a label of an earlier day.
-- Area under the ROC curve and average precision are exact, those of scikit-learn: ties count half,
-- and as one threshold. Expected calibration error: Guo et al. 2017, ten bins of equal width.
-- Sums of floating-point numbers are taken in a fixed order, so that a day has the same bits each time.
-- Grain: day with predictions. Days needed: fraud_predictions [first_day, last_day], fraud_labels and
-- clean_transactions [first_day - 30, last_day].
WITH labelled AS (
    SELECT
        p.day,
        p.customer_id,
        p.score::DOUBLE AS score,
        p.amount::DECIMAL(18, 2) AS amount,
        p.model_version,
        l.transaction_id IS NOT NULL AS has_label,
        coalesce(l.is_fraud, false) AS is_fraud,
        p.day <= $labels_known_until AS measured
    FROM fraud_predictions AS p
    LEFT JOIN fraud_labels AS l ON l.transaction_id = p.transaction_id AND l.day = p.day
),
known AS (
    SELECT DISTINCT days.day, c.customer_id
    FROM clean_transactions AS c
    JOIN fraud_labels AS l ON l.transaction_id = c.transaction_id AND l.day = c.day AND l.is_fraud
    JOIN (SELECT DISTINCT day FROM labelled WHERE measured) AS days
        ON c.day BETWEEN days.day - 30 AND days.day - 1 AND l.known_on < days.day
),
open AS (
    SELECT *
    FROM (SELECT * FROM labelled WHERE measured)
    ANTI JOIN known USING (day, customer_id)
),
by_score AS (
    SELECT day, score, count(*) AS transactions, count(*) FILTER (is_fraud) AS frauds
    FROM open
    GROUP BY day, score
),
ranked AS (
    SELECT
        *,
        sum(transactions) OVER from_the_top AS transactions_so_far,
        sum(frauds) OVER from_the_top AS frauds_so_far
    FROM by_score
    WINDOW from_the_top AS (PARTITION BY day ORDER BY score DESC)
),
discrimination AS (
    SELECT
        day,
        sum(transactions)::DOUBLE AS measured_rows,
        sum(frauds)::DOUBLE AS frauds,
        sum(frauds * (frauds_so_far::DOUBLE / transactions_so_far::DOUBLE) ORDER BY score)
            / nullif(sum(frauds), 0) AS average_precision,
        sum((transactions - frauds) * (frauds_so_far - frauds / 2.0::DOUBLE) ORDER BY score)
            / nullif(sum(frauds)::DOUBLE * (sum(transactions) - sum(frauds))::DOUBLE, 0) AS auc,
        sum(frauds * (1 - score) * (1 - score) + (transactions - frauds) * score * score ORDER BY score)
            / sum(transactions) AS brier_score
    FROM ranked
    GROUP BY day
),
score_bins AS (
    SELECT
        day,
        least(floor(score * 10), 9) AS bin,
        sum(score * transactions ORDER BY score) AS score_sum,
        sum(frauds) AS frauds
    FROM by_score
    GROUP BY day, bin
),
calibration AS (
    SELECT
        day,
        sum(score_sum ORDER BY bin) AS score_sum,
        sum(abs(score_sum - frauds) ORDER BY bin) AS error_sum
    FROM score_bins
    GROUP BY day
),
cards AS (
    SELECT
        day,
        row_number() OVER (PARTITION BY day ORDER BY max(score) DESC, customer_id) AS place,
        bool_or(is_fraud) AS is_compromised,
        sum(CASE WHEN is_fraud THEN amount ELSE 0 END) AS fraud_amount
    FROM open
    GROUP BY day, customer_id
),
found AS (
    SELECT
        day,
        count(*) FILTER (is_compromised AND place <= 100) / 100.0::DOUBLE AS card_precision,
        least(count(*) FILTER (is_compromised), 100) / 100.0::DOUBLE AS card_precision_ceiling,
        sum(fraud_amount)::DECIMAL(18, 2) AS fraud_amount,
        (sum(fraud_amount) FILTER (place <= 100))::DOUBLE
            / nullif(sum(fraud_amount), 0)::DOUBLE AS fraud_value_caught
    FROM cards
    GROUP BY day
),
days AS (
    SELECT
        day,
        bool_and(measured) AS measured,
        count(*) AS transactions,
        CASE WHEN bool_and(measured) THEN count(*) FILTER (has_label) END AS labels,
        string_agg(DISTINCT model_version, ', ' ORDER BY model_version) AS model_version
    FROM labelled
    GROUP BY day
)
SELECT
    days.measured,
    days.transactions,
    days.labels,
    CASE WHEN days.measured THEN days.transactions - coalesce(d.measured_rows::BIGINT, 0) END AS left_out,
    d.frauds::BIGINT AS frauds,
    d.auc,
    d.average_precision,
    f.card_precision AS card_precision_at_100,
    f.card_precision_ceiling AS card_precision_at_100_ceiling,
    f.fraud_amount,
    f.fraud_value_caught,
    c.score_sum / d.measured_rows AS mean_score,
    d.frauds / d.measured_rows AS fraud_share,
    d.brier_score,
    c.error_sum / d.measured_rows AS calibration_error,
    days.model_version,
    days.day
FROM days
LEFT JOIN discrimination AS d ON d.day = days.day
LEFT JOIN calibration AS c ON c.day = days.day
LEFT JOIN found AS f ON f.day = days.day
