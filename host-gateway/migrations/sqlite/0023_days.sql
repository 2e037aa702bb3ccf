-- What operators' shares of a day go by that fares were asked for early of, before its close: fixed by the first of them.
CREATE TABLE early_days (
    service_day INTEGER NOT NULL PRIMARY KEY,
    shares      TEXT    NOT NULL CHECK (shares IN ('fixed', 'nominal', 'passenger_km'))
) STRICT, WITHOUT ROWID;

-- Until now such fares went with fixed shares alone. From day to day by the primary key, not through every charge.
INSERT INTO early_days (service_day, shares)
    WITH RECURSIVE days (day) AS (
        SELECT MIN(service_day) FROM charges
        UNION ALL
        SELECT (SELECT MIN(c.service_day) FROM charges AS c WHERE c.service_day > days.day) FROM days WHERE days.day IS NOT NULL
    )
    SELECT day, 'fixed' FROM days
    WHERE day IS NOT NULL AND NOT EXISTS (SELECT 1 FROM day_close AS d WHERE d.service_day = days.day);

-- The last of the days whose file it is; of a file of one day that day.
ALTER TABLE taken_files ADD COLUMN last_day INTEGER;
UPDATE taken_files SET last_day = service_day;

-- How many entries that API keys and files brought on a service day do not open: those that were set aside, and those beyond.
CREATE TABLE batch_days (
    service_day INTEGER NOT NULL PRIMARY KEY,
    set_aside   INTEGER NOT NULL,
    not_kept    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
