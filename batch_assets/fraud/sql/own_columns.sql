-- Grain: transaction of the day. Numbers as doubles; what is no finite number of a float's size is null.
-- Table: own_rows, what a SELECT of one's own gave of a day.
SELECT
    transaction_id,
    CASE
        WHEN abs(COLUMNS(* EXCLUDE (transaction_id, day))::DOUBLE) <= 3.4e38
        THEN COLUMNS(* EXCLUDE (transaction_id, day))::DOUBLE
    END
FROM own_rows
ORDER BY transaction_id
