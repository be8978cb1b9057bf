-- How well the scores of each day tell frauds from genuine transactions: area under the ROC curve, and
-- average precision (the step-wise sum of scikit-learn). Exact; ties count half, and as one threshold.
-- Grain: day that has both. Views: fraud_predictions, fraud_labels.
WITH by_score AS (
    SELECT
        p.day,
        p.score,
        count(*) AS transactions,
        count(*) FILTER (l.is_fraud) AS frauds
    FROM fraud_predictions AS p
    LEFT JOIN fraud_labels AS l ON l.transaction_id = p.transaction_id AND l.day = p.day
    GROUP BY p.day, p.score
),
ranked AS (
    SELECT
        *,
        sum(transactions) OVER from_the_top AS transactions_so_far,
        sum(frauds) OVER from_the_top AS frauds_so_far
    FROM by_score
    WINDOW from_the_top AS (PARTITION BY day ORDER BY score DESC)
)
SELECT
    day,
    sum(transactions)::DOUBLE AS transactions,
    sum(frauds)::DOUBLE AS frauds,
    sum(frauds * (frauds_so_far::DOUBLE / transactions_so_far::DOUBLE)) / sum(frauds) AS average_precision,
    sum((transactions - frauds) * (frauds_so_far - frauds / 2.0::DOUBLE))
        / (sum(frauds)::DOUBLE * (sum(transactions) - sum(frauds))::DOUBLE) AS auc
FROM ranked
GROUP BY day
HAVING sum(frauds) BETWEEN 1 AND sum(transactions) - 1
