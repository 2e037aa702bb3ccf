-- Beside its token stands all of a tap that risk and clearing go by, so that neither reads taps at random places; and what has
-- come in bulk is looked at in one pass in the order of tokens, not in batches that each touch most of the table.

-- Gateways of the version before may be at work.
SELECT pg_advisory_xact_lock(6295711);
LOCK TABLE taps, token_taps, arrivals IN ACCESS EXCLUSIVE MODE;

ALTER TABLE token_taps RENAME TO token_places;
ALTER TABLE token_places RENAME CONSTRAINT token_taps_pkey TO token_places_pkey;

-- The opened taps of a UTC day by token, each token's in order of time: how clearing reads a day in token order with
-- bounded memory, and how a token's taps are found. Those that risk has not looked at are not among them.
CREATE TABLE token_taps (
    utc_day     BIGINT NOT NULL,                                  -- of time_ms
    token_key   BYTEA   NOT NULL CHECK (length(token_key) = 16),
    time_ms     BIGINT NOT NULL,
    key_id      BYTEA   NOT NULL CHECK (length(key_id) = 8),
    sequence    BIGINT NOT NULL,
    clock       SMALLINT NOT NULL,                                -- this and what follows: as in taps
    service_day BIGINT,
    station     TEXT COLLATE "C" NOT NULL,
    direction   SMALLINT NOT NULL,
    atc         BIGINT,
    cryptogram  SMALLINT NOT NULL,
    card_digest BYTEA,
    passage     SMALLINT,                                         -- but for what late_passages names
    withheld    SMALLINT NOT NULL,
    PRIMARY KEY (utc_day, token_key, time_ms, key_id, sequence)
);

INSERT INTO token_taps (utc_day, token_key, time_ms, key_id, sequence, clock, service_day, station, direction, atc, cryptogram,
    card_digest, passage, withheld)
    SELECT i.utc_day, i.token_key, i.time_ms, i.key_id, i.sequence, t.clock, t.service_day, t.station, t.direction, t.atc,
    t.cryptogram, t.card_digest, t.passage, t.withheld FROM token_places AS i CROSS JOIN taps AS t
    WHERE t.key_id = i.key_id AND t.sequence = i.sequence ORDER BY 1, 2, 3, 4, 5;

DROP TABLE token_places;

-- Opened taps whose passage came after them, or changed: risk enters it beside the token.
CREATE TABLE late_passages (
    key_id BYTEA   NOT NULL CHECK (length(key_id) = 8),
    of     BIGINT NOT NULL,                                       -- the tap's sequence
    PRIMARY KEY (key_id, of)
);

-- How far risk has come with the arrivals that are in its pass, by ranges of tokens.
CREATE TABLE risk_pass (
    shard  SMALLINT NOT NULL PRIMARY KEY,
    number BIGINT NOT NULL,                                       -- of the pass
    cursor BYTEA   NOT NULL,                                      -- the last token looked at
    until  BYTEA   NOT NULL,
    open   SMALLINT NOT NULL CHECK (open IN (0, 1))
);

ALTER TABLE arrivals ADD COLUMN in_pass SMALLINT NOT NULL DEFAULT 0 CHECK (in_pass IN (0, 1));
