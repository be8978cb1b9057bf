-- Grain: customer and day, the riskiest 1,000 of the day. Key: day, customer_id.
-- View: fraud_predictions.
WITH customers AS (
    SELECT
        customer_id,
        max(score) AS max_score,
        arg_max(transaction_id, (score, transaction_id)) AS transaction_id,
        count(*) AS tx_count,
        sum(amount::DECIMAL(18, 2))::DECIMAL(18, 2) AS amount_sum,
        any_value(model_version) AS model_version,
        day
    FROM fraud_predictions
    WHERE day BETWEEN $first_day AND $last_day
    GROUP BY day, customer_id
),
ranked AS (
    SELECT *, row_number() OVER (PARTITION BY day ORDER BY max_score DESC, customer_id)::INTEGER AS rank
    FROM customers
)
SELECT customer_id, rank, max_score, transaction_id, tx_count, amount_sum, model_version, day
FROM ranked
WHERE rank <= 1000
