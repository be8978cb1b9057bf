-- Grain: customer of the day, riskiest first, each with the transaction that decides.
-- Views: fraud_predictions, daily_risk_report, which gives the reasons of the first 100.
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
SELECT
    row_number() OVER (ORDER BY c.max_score DESC, c.customer_id) AS rank,
    c.*,
    r.reasons
FROM customers AS c
LEFT JOIN daily_risk_report AS r
    ON r.transaction_id = c.transaction_id AND r.day = c.day AND r.model_version = c.model_version
ORDER BY rank
LIMIT $top
