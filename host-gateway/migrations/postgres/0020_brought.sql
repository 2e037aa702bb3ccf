-- What operators' concentrators brought: how much of it on each service day, and which runs of a gate's entries.
CREATE TABLE concentrator_days (
    concentrator TEXT COLLATE "C" NOT NULL,                           -- its key_id
    service_day  BIGINT NOT NULL,                                     -- on which it asked
    last_ms      BIGINT NOT NULL,                                     -- when it was last heard
    requests     BIGINT NOT NULL,
    refused      BIGINT NOT NULL DEFAULT 0,                           -- of these, those that were its own and refused whole
    accepted     BIGINT NOT NULL DEFAULT 0,                           -- entries, by what became of them
    repeated     BIGINT NOT NULL DEFAULT 0,
    set_aside    BIGINT NOT NULL DEFAULT 0,
    not_kept     BIGINT NOT NULL DEFAULT 0,
    gaps         BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (concentrator, service_day)
);

-- An entry is accepted once, so that no two runs of a gate's meet.
CREATE TABLE brought (
    key_id        BYTEA NOT NULL,
    from_sequence BIGINT NOT NULL,
    upto_sequence BIGINT NOT NULL,
    concentrator  TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (key_id, from_sequence)
);
CREATE UNIQUE INDEX brought_ends ON brought (key_id, upto_sequence);

-- Whose bytes they are; none where they came over a link or in a file.
ALTER TABLE set_aside ADD COLUMN concentrator TEXT COLLATE "C";
