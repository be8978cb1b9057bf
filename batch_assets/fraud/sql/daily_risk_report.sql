-- Grain: customer and day, the riskiest 1,000 of the day. Key: day, customer_id.
-- Tables: riskiest (see daily_risk_report_prepare), alert_reasons (day, transaction_id, reasons).
SELECT
    r.customer_id,
    r.rank,
    r.max_score,
    r.transaction_id,
    r.tx_count,
    r.amount_sum,
    r.model_version,
    a.reasons,
    r.day
FROM riskiest AS r
LEFT JOIN alert_reasons AS a ON a.day = r.day AND a.transaction_id = r.transaction_id
