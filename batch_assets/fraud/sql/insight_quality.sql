-- Grain: day. Labels and scores of all its transactions. Views: fraud_predictions, fraud_labels.
SELECT
    p.day,
    list(coalesce(l.is_fraud, false)) AS labels,
    list(p.score) AS scores
FROM fraud_predictions AS p
LEFT JOIN fraud_labels AS l ON l.transaction_id = p.transaction_id AND l.day = p.day
GROUP BY p.day
