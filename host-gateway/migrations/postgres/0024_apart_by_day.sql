-- Taps beside their tokens are apart by service day, a partition each, so that a day that is deleted is a table that is
-- dropped. Risk makes partitions as days come near (risk/days.rs).

-- Gateways of the version before may be at work.
SELECT pg_advisory_xact_lock(6295711);
LOCK TABLE token_taps IN ACCESS EXCLUSIVE MODE;

ALTER TABLE token_taps RENAME TO token_taps_before;
ALTER TABLE token_taps_before RENAME CONSTRAINT token_taps_pkey TO token_taps_before_pkey;

-- The same columns and rules. By time and not by UTC day, of which a service day holds parts of two or three.
CREATE TABLE token_taps (LIKE token_taps_before INCLUDING CONSTRAINTS, PRIMARY KEY (utc_day, token_key, time_ms, key_id, sequence))
    PARTITION BY RANGE (time_ms);

-- Taps of days that have no partition: of clocks that are far off, and what came long before.
CREATE TABLE token_taps_rest PARTITION OF token_taps DEFAULT;

-- Months of taps are not written again: their table becomes the partition of all that is earlier than two days from now, as
-- far as the store can tell the time. Where service days begin is not known here.
DO $$
DECLARE
    upto_ms BIGINT := (SELECT COALESCE((max(received_ms) / 86400000 + 3) * 86400000, 0) FROM entries);
BEGIN
    INSERT INTO token_taps_rest SELECT * FROM token_taps_before WHERE time_ms >= upto_ms;
    DELETE FROM token_taps_before WHERE time_ms >= upto_ms;
    IF EXISTS (SELECT 1 FROM token_taps_before) THEN
        EXECUTE format('ALTER TABLE token_taps ATTACH PARTITION token_taps_before FOR VALUES FROM (MINVALUE) TO (%s)', upto_ms);
    ELSE
        DROP TABLE token_taps_before;
    END IF;
END
$$;
