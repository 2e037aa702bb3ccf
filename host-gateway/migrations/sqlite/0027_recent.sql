-- A token's newest taps: from when on they are here, then the time, the station's hash and the direction of each. NULL: what was
-- there before, which risk looks up.
ALTER TABLE risk_states ADD COLUMN recent BLOB;

-- Two more causes for which a token is refused: `passback` and `travel`.
CREATE TABLE deny_entries_new (
    token_key    BLOB    NOT NULL CHECK (length(token_key) = 16),
    cause        TEXT    NOT NULL
        CHECK (cause IN ('debt', 'clone', 'lost', 'manual', 'deleted', 'authorisation', 'written_off', 'passback', 'travel')),
    sealed_token BLOB    NOT NULL,
    last_four    TEXT    NOT NULL,
    expiry_yymm  INTEGER NOT NULL,
    since_ms     INTEGER NOT NULL,
    note         TEXT    NOT NULL,
    by           TEXT    NOT NULL,
    PRIMARY KEY (token_key, cause)
) STRICT, WITHOUT ROWID;
INSERT INTO deny_entries_new SELECT token_key, cause, sealed_token, last_four, expiry_yymm, since_ms, note, by FROM deny_entries;
DROP TABLE deny_entries;
ALTER TABLE deny_entries_new RENAME TO deny_entries;
