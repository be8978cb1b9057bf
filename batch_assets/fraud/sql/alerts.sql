-- Grain: customer of the day, riskiest first, each with the transaction that decides. View: fraud_predictions.
WITH customers AS (
    SELECT
        day,
        customer_id,
        max(score) AS max_score,
        arg_max(transaction_id, (score, transaction_id)) AS transaction_id,
        arg_max(terminal_id, (score, transaction_id)) AS terminal_id,
        arg_max(amount, (score, transaction_id)) AS amount,
        count(*) AS tx_count,
        any_value(model_version) AS model_version
    FROM fraud_predictions
    GROUP BY day, customer_id
)
SELECT row_number() OVER (ORDER BY max_score DESC, customer_id) AS rank, *
FROM customers
ORDER BY rank
LIMIT $top
