-- What operators' concentrators brought: how much of it on each service day, and which runs of a gate's entries.
CREATE TABLE concentrator_days (
    concentrator TEXT    NOT NULL,                                    -- its key_id
    service_day  INTEGER NOT NULL,                                    -- on which it asked
    last_ms      INTEGER NOT NULL,                                    -- when it was last heard
    requests     INTEGER NOT NULL,
    refused      INTEGER NOT NULL DEFAULT 0,                          -- of these, those that were its own and refused whole
    accepted     INTEGER NOT NULL DEFAULT 0,                          -- entries, by what became of them
    repeated     INTEGER NOT NULL DEFAULT 0,
    set_aside    INTEGER NOT NULL DEFAULT 0,
    not_kept     INTEGER NOT NULL DEFAULT 0,
    gaps         INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (concentrator, service_day)
) STRICT, WITHOUT ROWID;

-- An entry is accepted once, so that no two runs of a gate's meet.
CREATE TABLE brought (
    key_id        BLOB    NOT NULL,
    from_sequence INTEGER NOT NULL,
    upto_sequence INTEGER NOT NULL,
    concentrator  TEXT    NOT NULL,
    PRIMARY KEY (key_id, from_sequence)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX brought_ends ON brought (key_id, upto_sequence);

-- Whose bytes they are; none where they came over a link or in a file.
ALTER TABLE set_aside ADD COLUMN concentrator TEXT;
