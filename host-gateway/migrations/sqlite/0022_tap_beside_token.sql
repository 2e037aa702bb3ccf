-- Beside its token stands all of a tap that risk and clearing go by, so that neither reads taps at random places; and what has
-- come in bulk is looked at in one pass in the order of tokens, not in batches that each touch most of the table.

ALTER TABLE token_taps RENAME TO token_places;

-- The opened taps of a UTC day by token, each token's in order of time: how clearing reads a day in token order with
-- bounded memory, and how a token's taps are found. Those that risk has not looked at are not among them.
CREATE TABLE token_taps (
    utc_day     INTEGER NOT NULL,                                 -- of time_ms
    token_key   BLOB    NOT NULL CHECK (length(token_key) = 16),
    time_ms     INTEGER NOT NULL,
    key_id      BLOB    NOT NULL CHECK (length(key_id) = 8),
    sequence    INTEGER NOT NULL,
    clock       INTEGER NOT NULL,                                 -- this and what follows: as in taps
    service_day INTEGER,
    station     TEXT    NOT NULL,
    direction   INTEGER NOT NULL,
    atc         INTEGER,
    cryptogram  INTEGER NOT NULL,
    card_digest BLOB,
    passage     INTEGER,                                          -- but for what late_passages names
    withheld    INTEGER NOT NULL,
    PRIMARY KEY (utc_day, token_key, time_ms, key_id, sequence)
) STRICT, WITHOUT ROWID;

INSERT INTO token_taps (utc_day, token_key, time_ms, key_id, sequence, clock, service_day, station, direction, atc, cryptogram,
    card_digest, passage, withheld)
    SELECT i.utc_day, i.token_key, i.time_ms, i.key_id, i.sequence, t.clock, t.service_day, t.station, t.direction, t.atc,
    t.cryptogram, t.card_digest, t.passage, t.withheld FROM token_places AS i CROSS JOIN taps AS t
    WHERE t.key_id = i.key_id AND t.sequence = i.sequence ORDER BY 1, 2, 3, 4, 5;

DROP TABLE token_places;

-- Opened taps whose passage came after them, or changed: risk enters it beside the token.
CREATE TABLE late_passages (
    key_id BLOB    NOT NULL CHECK (length(key_id) = 8),
    of     INTEGER NOT NULL,                                      -- the tap's sequence
    PRIMARY KEY (key_id, of)
) STRICT, WITHOUT ROWID;

-- How far risk has come with the arrivals that are in its pass, by ranges of tokens.
CREATE TABLE risk_pass (
    shard  INTEGER NOT NULL PRIMARY KEY,
    number INTEGER NOT NULL,                                      -- of the pass
    cursor BLOB    NOT NULL,                                      -- the last token looked at
    until  BLOB    NOT NULL,
    open   INTEGER NOT NULL CHECK (open IN (0, 1))
) STRICT;

ALTER TABLE arrivals ADD COLUMN in_pass INTEGER NOT NULL DEFAULT 0 CHECK (in_pass IN (0, 1));
