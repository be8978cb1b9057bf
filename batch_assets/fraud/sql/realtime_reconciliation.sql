-- realtime_reconciliation: what servers said of a day's transactions, beside what the batch says.
-- Grain: transaction that a server scored. Key: transaction_id.
-- Views: realtime (rows of the server's file), recorded (what was recorded of the day before: a row
--        that the file holds no more stays), fraud_predictions (of the day).
WITH told AS (
    SELECT
        transaction_id,
        score AS realtime_score,
        amount AS realtime_amount,
        model_version AS realtime_model_version,
        scored_at AS realtime_scored_at,
        customer_id,
        terminal_id,
        happened_at
    FROM realtime
    UNION ALL BY NAME
    SELECT
        transaction_id,
        realtime_score,
        realtime_amount,
        realtime_model_version,
        realtime_scored_at,
        customer_id,
        terminal_id,
        happened_at
    FROM recorded
    WHERE transaction_id NOT IN (SELECT transaction_id FROM realtime)
),

compared AS (
    SELECT
        told.*,
        batch.score AS batch_score,
        batch.amount AS batch_amount,
        batch.model_version AS batch_model_version,
        batch.score::DOUBLE - realtime_score::DOUBLE AS difference,
        batch.customer_id = told.customer_id
            AND batch.terminal_id = told.terminal_id
            AND batch.happened_at = told.happened_at AS is_same
    FROM told
    LEFT JOIN fraud_predictions AS batch ON told.transaction_id = batch.transaction_id
)

SELECT
    transaction_id,
    customer_id,
    terminal_id,
    happened_at,
    realtime_score,
    batch_score,
    difference,
    CASE
        WHEN batch_score IS NULL THEN 'missing'
        WHEN abs(difference) <= $tolerance THEN 'agreed'
        ELSE 'differs'
    END AS status,
    CASE
        WHEN status <> 'differs' THEN NULL
        WHEN batch_model_version <> realtime_model_version THEN 'model'
        WHEN NOT is_same THEN 'transaction'
        WHEN batch_amount <> realtime_amount THEN 'amount'
        ELSE 'features'
    END AS what_differs,
    realtime_amount,
    batch_amount,
    realtime_model_version,
    batch_model_version,
    realtime_scored_at
FROM compared
ORDER BY transaction_id
