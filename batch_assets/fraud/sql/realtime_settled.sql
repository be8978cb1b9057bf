-- Transactions scored in real time whose row in the servers' file is needed no more.
-- Grain: transaction. View: realtime_reconciliation.
SELECT transaction_id
FROM realtime_reconciliation
WHERE status <> 'missing' OR day < $given_up
