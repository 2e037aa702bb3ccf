-- Which tokens risk has to look at: a small table beside the taps. As a column of theirs it cost every tap a second
-- writing of its row and of all its indexes.
CREATE TABLE unchecked (
    token_key BLOB    NOT NULL PRIMARY KEY CHECK (length(token_key) = 16),
    from_ms   INTEGER NOT NULL,                                   -- the earliest of the token's taps that were not looked at
    upto_ms   INTEGER NOT NULL                                    -- the latest
) STRICT, WITHOUT ROWID;

INSERT INTO unchecked (token_key, from_ms, upto_ms)
    SELECT token_key, min(time_ms), max(time_ms) FROM taps
    WHERE checked = 0 AND opened = 1 AND token_key IS NOT NULL GROUP BY token_key;

-- The days on which a gate opened to anybody.
CREATE TABLE tapped_days (
    service_day INTEGER NOT NULL,
    key_id      BLOB    NOT NULL CHECK (length(key_id) = 8),
    PRIMARY KEY (service_day, key_id)
) STRICT, WITHOUT ROWID;

INSERT INTO tapped_days (service_day, key_id)
    SELECT DISTINCT service_day, key_id FROM taps WHERE opened = 1 AND service_day IS NOT NULL;

-- An opened tap without a token never counts.
UPDATE taps SET withheld = withheld | 8 WHERE opened = 1 AND checked = 0 AND token_key IS NULL;

DROP INDEX taps_unchecked;
DROP INDEX taps_token;
DROP INDEX taps_day;
DROP INDEX taps_by_utc_day;
ALTER TABLE taps DROP COLUMN checked;

-- The opened taps of a UTC day by token, each token's in order of time: how clearing reads a day in token order with
-- bounded memory, and how risk finds a token's taps around a time.
CREATE INDEX taps_day ON taps (time_ms / 86400000, token_key, time_ms) WHERE opened = 1;
