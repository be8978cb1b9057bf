-- Files that could not be read, or not to their end. Grain: file and what is wrong with it.
-- Views: quarantined_transactions, quarantined_labels, quarantined_rates.
SELECT file, reasons[1] AS reason
FROM (
    SELECT file, row_number, reasons FROM quarantined_transactions
    UNION ALL
    SELECT file, row_number, reasons FROM quarantined_labels
    UNION ALL
    SELECT file, row_number, reasons FROM quarantined_rates
)
WHERE row_number = 0
ORDER BY file
