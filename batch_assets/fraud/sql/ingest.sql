-- One row a record of some landing files of a feed: what it says as text, what that means, and why it cannot be used.
-- Grain: record of a file. Key: file, row_number, and 0 for the file as a whole (possibly more than once).
-- View:  records (batch_assets.fraud.staging.RECORDS).
-- Parameters: the feed's description and the first partition.
WITH trimmed AS (
    SELECT
        file_id,
        file,
        arrived,
        row_number,
        $prefix || nullif(trim(key), '') AS transaction_id,
        $prefix || nullif(trim(customer), '') AS customer_id,
        $prefix || nullif(trim(terminal), '') AS terminal_id,
        nullif(trim(amount), '') AS amount_text,
        nullif(trim(currency), '') AS currency_text,
        nullif(trim(time), '') AS time_text,
        nullif(trim(label), '') AS label_text,
        nullif(trim(rate), '') AS rate_text,
        other,
        line,
        problem
    FROM records
),
read AS (
    SELECT
        *,
        upper(coalesce(currency_text, $currency)) AS currency,
        coalesce(regexp_full_match(amount_text, $number_pattern), false) AS is_bare_amount,
        -- digits alone: spaces, symbols and currency codes go
        CASE
            WHEN is_bare_amount THEN amount_text
            ELSE regexp_replace(amount_text, '[\s\x{a0}\x{202f}€$£¥₩₹]|\b[A-Z]{3}\b', '', 'g')
        END AS amount_digits,
        regexp_replace(rate_text, '[\s\x{a0}]', '', 'g') AS rate_digits,
        $time_format IN ('epoch_s', 'epoch_ms')
            OR regexp_matches(time_text, ':\d\d([.,]\d+)?\s*(Z|[+-]\d\d(:?\d\d)?)$') AS is_utc,
        CASE
            WHEN is_utc THEN NULL
            WHEN $time_format = 'iso' THEN try_cast(time_text AS TIMESTAMP)
            ELSE try_strptime(time_text, $time_format)
        END AS wall_clock
    FROM trimmed
),
utc AS (
    SELECT
        *,
        CASE
            WHEN $time_format = 'epoch_ms' THEN try_cast(time_text AS BIGINT) * 1000
            WHEN $time_format = 'epoch_s' THEN try_cast(try_cast(time_text AS DECIMAL(18, 6)) * 1000000 AS BIGINT)
        END AS epoch_us,
        CASE
            WHEN $time_format NOT IN ('epoch_s', 'epoch_ms') AND is_utc
                THEN make_timestamp(epoch_us(try_cast(time_text AS TIMESTAMPTZ)))
            WHEN wall_clock NOT BETWEEN TIMESTAMP '1900-01-01' AND TIMESTAMP '2200-01-01' THEN NULL
            WHEN $time_zone = 'UTC' THEN wall_clock
            ELSE make_timestamp(epoch_us(timezone($time_zone, wall_clock)))
        END AS guess
    FROM read
),
placed AS (
    SELECT
        *,
        CASE
            WHEN is_utc OR $time_zone = 'UTC' THEN false
            ELSE timezone($time_zone, make_timestamptz(epoch_us(guess))) <> wall_clock
        END AS is_gap,
        CASE
            WHEN is_utc OR $time_zone = 'UTC' THEN NULL
            WHEN timezone($time_zone, make_timestamptz(epoch_us(guess) - 3600000000)) = wall_clock THEN -1
            WHEN timezone($time_zone, make_timestamptz(epoch_us(guess) + 3600000000)) = wall_clock THEN 1
        END AS twin
    FROM utc
),
timed AS (
    SELECT
        *,
        CASE
            WHEN epoch_us BETWEEN 0 AND 7258118400000000 THEN make_timestamp(epoch_us)
            WHEN is_utc THEN guess
            WHEN is_gap OR (twin IS NOT NULL AND $ambiguous_time = 'quarantine') THEN NULL
            WHEN twin = -1 AND $ambiguous_time = 'earlier' THEN guess - INTERVAL 1 HOUR
            WHEN twin = 1 AND $ambiguous_time = 'later' THEN guess + INTERVAL 1 HOUR
            ELSE guess
        END AS happened_at
    FROM placed
),
judged AS (
    SELECT
        *,
        CASE
            WHEN NOT (is_bare_amount OR regexp_full_match(amount_digits, $number_pattern)) THEN NULL
            ELSE try_cast(replace(replace(amount_digits, $thousands, ''), $decimal, '.') AS DECIMAL(18, 4))
        END AS amount,
        CASE
            WHEN NOT regexp_full_match(rate_digits, $rate_pattern) THEN NULL
            ELSE try_cast(replace(replace(rate_digits, $thousands, ''), $decimal, '.') AS DECIMAL(18, 10))
        END AS rate,
        CASE
            WHEN lower(label_text) IN ('1', 'true', 't', 'yes', 'y', 'fraud') THEN true
            WHEN lower(label_text) IN ('0', 'false', 'f', 'no', 'n', 'genuine') THEN false
        END AS is_fraud,
        -- a currency sign that says otherwise than the currency beside it
        CASE
            WHEN is_bare_amount THEN NULL
            WHEN contains(amount_text, '€') THEN ['EUR']
            WHEN contains(amount_text, '£') THEN ['GBP', 'EGP', 'FKP', 'GIP', 'LBP', 'SHP', 'SYP', 'SDG', 'SSP']
            WHEN contains(amount_text, '¥') THEN ['JPY', 'CNY']
            WHEN contains(amount_text, '₩') THEN ['KRW', 'KPW']
            WHEN contains(amount_text, '₹') THEN ['INR']
            WHEN regexp_matches(amount_text, '\b[A-Z]{3}\b') THEN [regexp_extract(amount_text, '\b[A-Z]{3}\b')]
        END AS signed_currencies
    FROM timed
    LEFT JOIN (SELECT unnest($known_currencies) AS known_currency) ON known_currency = currency
),
explained AS (
    SELECT
        *,
        CASE
            WHEN problem IS NOT NULL THEN [problem]
            ELSE list_filter([
                CASE WHEN list_contains($needed, 'key') AND transaction_id IS NULL
                    THEN 'the key is missing' END,
                CASE WHEN list_contains($needed, 'customer') AND customer_id IS NULL
                    THEN 'the customer is missing' END,
                CASE WHEN list_contains($needed, 'terminal') AND terminal_id IS NULL
                    THEN 'the terminal is missing' END,
                CASE
                    WHEN NOT list_contains($needed, 'amount') THEN NULL
                    WHEN amount_text IS NULL THEN 'the amount is missing'
                    WHEN amount IS NULL THEN 'the amount ''' || amount_text || ''' is not a number with at most '
                        || '4 decimals, decimal mark ''' || $decimal || ''''
                    WHEN amount < 0 THEN 'the amount ' || amount_text || ' is negative'
                END,
                CASE
                    WHEN NOT list_contains($needed, 'currency') THEN NULL
                    WHEN currency IS NULL THEN 'the currency is missing'
                    WHEN known_currency IS NULL
                        THEN 'the currency ''' || currency || ''' is not an ISO 4217 code'
                    WHEN NOT list_contains(signed_currencies, currency)
                        THEN 'the amount ''' || amount_text || ''' contradicts the currency ' || currency
                END,
                CASE
                    WHEN NOT list_contains($needed, 'rate') THEN NULL
                    WHEN rate_text IS NULL THEN 'the rate is missing'
                    WHEN rate IS NULL OR rate <= 0 THEN 'the rate ''' || rate_text || ''' is not a positive number'
                END,
                CASE
                    WHEN list_contains($needed, 'label') AND label_text IS NULL THEN 'the label is missing'
                    WHEN label_text IS NOT NULL AND is_fraud IS NULL
                        THEN 'the label ''' || label_text || ''' is neither 1 nor 0'
                END,
                CASE
                    WHEN time_text IS NULL THEN 'the time is missing'
                    WHEN is_gap THEN 'the time ' || time_text || ' does not exist in ' || $time_zone
                        || ': clocks went forward'
                    WHEN twin IS NOT NULL AND happened_at IS NULL
                        THEN 'the time ' || time_text || ' exists twice in ' || $time_zone
                    WHEN happened_at IS NULL THEN 'the time ''' || time_text || ''' is not of the format '
                        || $time_format
                    WHEN happened_at::DATE > arrived + $tolerance_days::INTEGER
                        THEN 'the time ' || time_text || ' lies in the future of its arrival on ' || arrived
                    WHEN happened_at::DATE < $first_day
                        THEN 'the time ' || time_text || ' lies before the first partition, ' || $first_day
                END
            ], lambda reason: reason IS NOT NULL)
        END AS problems
    FROM judged
)
SELECT
    $feed AS feed,
    $region AS region,
    file,
    row_number,
    transaction_id,
    customer_id,
    terminal_id,
    amount_text,
    currency_text,
    time_text,
    label_text,
    rate_text,
    other,
    line,
    happened_at,
    CASE
        WHEN $time_zone = 'UTC' THEN happened_at
        WHEN happened_at IS NULL THEN NULL
        WHEN wall_clock IS NOT NULL THEN wall_clock
        ELSE timezone($time_zone, make_timestamptz(epoch_us(happened_at)))
    END AS local_time,
    amount,
    currency,
    is_fraud,
    rate,
    problems,
    CASE
        WHEN happened_at::DATE BETWEEN $first_day AND arrived + $tolerance_days::INTEGER
            THEN happened_at::DATE
        ELSE arrived
    END AS happened_on,
    arrived AS day,
    file_id
FROM explained
