-- riskiest. Grain: customer and day, the riskiest 1,000 of the day. Key: day, customer_id.
-- View: fraud_predictions.
CREATE TEMP TABLE riskiest AS
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
    GROUP BY day, customer_id
)
SELECT
    *,
    row_number() OVER (PARTITION BY day ORDER BY max_score DESC, customer_id)::INTEGER AS rank
FROM customers
QUALIFY rank <= 1000
