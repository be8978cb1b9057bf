-- Grain: one row for each of at most 2,000 sampled transactions. View: transaction_features.
SELECT *
FROM transaction_features
USING SAMPLE reservoir(2000 ROWS) REPEATABLE (7)
