-- What is found by token is written where risk looks at taps, in large sorted batches: as indexes of the taps, it cost every
-- tap that came a page at a random place each.

-- The opened taps of a UTC day by token, each token's in order of time: how clearing reads a day in token order with
-- bounded memory, and how a token's taps are found. Those that risk has not looked at are not among them.
CREATE TABLE token_taps (
    utc_day   INTEGER NOT NULL,                                   -- of time_ms
    token_key BLOB    NOT NULL CHECK (length(token_key) = 16),
    time_ms   INTEGER NOT NULL,
    key_id    BLOB    NOT NULL CHECK (length(key_id) = 8),
    sequence  INTEGER NOT NULL,
    PRIMARY KEY (utc_day, token_key, time_ms, key_id, sequence)
) STRICT, WITHOUT ROWID;

INSERT INTO token_taps (utc_day, token_key, time_ms, key_id, sequence)
    SELECT t.time_ms / 86400000, t.token_key, t.time_ms, t.key_id, t.sequence FROM taps AS t INDEXED BY taps_day
    WHERE t.opened = 1 AND t.token_key IS NOT NULL AND NOT EXISTS (SELECT 1 FROM unchecked AS u
    WHERE u.token_key = t.token_key AND t.time_ms BETWEEN u.from_ms AND u.upto_ms)
    ORDER BY 1, 2, 3, 4, 5;

-- Runs of a gate's entries whose opened taps risk has not looked at.
CREATE TABLE arrivals (
    key_id        BLOB    NOT NULL CHECK (length(key_id) = 8),
    from_sequence INTEGER NOT NULL,
    upto_sequence INTEGER NOT NULL,
    taps          INTEGER NOT NULL,                               -- opened ones with a token
    from_ms       INTEGER NOT NULL,                               -- the earliest of them
    upto_ms       INTEGER NOT NULL,                               -- the latest
    PRIMARY KEY (from_ms, key_id, from_sequence)
) STRICT, WITHOUT ROWID;

INSERT INTO arrivals (key_id, from_sequence, upto_sequence, taps, from_ms, upto_ms)
    SELECT t.key_id, t.sequence, t.sequence, 1, t.time_ms, t.time_ms FROM unchecked AS u CROSS JOIN taps AS t
    WHERE t.token_key = u.token_key AND t.opened = 1 AND t.time_ms BETWEEN u.from_ms AND u.upto_ms;

-- The ATCs of a token's taps that risk has looked at, as runs of two bytes from and two bytes up to; NULL: they are to be
-- read from the taps.
ALTER TABLE risk_states ADD COLUMN atcs BLOB;

INSERT INTO risk_states (token_key, last_tap_ms)
    SELECT token_key, max(time_ms) FROM token_taps WHERE true GROUP BY token_key ON CONFLICT DO NOTHING;

UPDATE risk_states SET atcs = runs.bytes FROM (
    SELECT token_key, unhex(group_concat(printf('%04x%04x', lo, hi), '' ORDER BY lo)) AS bytes FROM (
        SELECT token_key, min(atc) AS lo, max(atc) AS hi FROM (
            SELECT token_key, atc, atc - row_number() OVER (PARTITION BY token_key ORDER BY atc) AS run FROM (
                SELECT DISTINCT i.token_key, t.atc FROM token_taps AS i CROSS JOIN taps AS t
                WHERE t.key_id = i.key_id AND t.sequence = i.sequence AND t.atc IS NOT NULL AND t.cryptogram <> 2
            ) AS used
        ) AS numbered GROUP BY token_key, run
    ) AS run_of GROUP BY token_key
) AS runs WHERE risk_states.token_key = runs.token_key;

DROP TABLE unchecked;
DROP INDEX taps_day;
DROP INDEX taps_atc;
