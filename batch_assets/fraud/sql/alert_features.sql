-- Grain: transaction that made one of the riskiest 100 customers of a day. Key: transaction_id.
-- Table: riskiest (see daily_risk_report_prepare). View: transaction_features.
SELECT f.*, r.model_version
FROM riskiest AS r
JOIN transaction_features AS f ON f.day = r.day AND f.transaction_id = r.transaction_id
WHERE r.rank <= 100
ORDER BY r.day, r.rank
