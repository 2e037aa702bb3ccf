-- Emergencies: an entry of kind 3. SQLite cannot alter a CHECK, so the table is made anew.

CREATE TABLE entries_wider (
    key_id      BLOB    NOT NULL CHECK (length(key_id) = 8),
    sequence    INTEGER NOT NULL CHECK (sequence BETWEEN 1 AND 4294967295),
    counter     INTEGER NOT NULL,
    kind        INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 3),    -- 1 tap, 2 passage, 3 emergency
    received_ms INTEGER NOT NULL,
    sealed      BLOB    NOT NULL,
    PRIMARY KEY (key_id, sequence)
) STRICT, WITHOUT ROWID;

INSERT INTO entries_wider SELECT key_id, sequence, counter, kind, received_ms, sealed FROM entries;
DROP TABLE entries;
ALTER TABLE entries_wider RENAME TO entries;
CREATE UNIQUE INDEX entries_counter ON entries (key_id, counter);

-- A gate's emergency input went on or off.
CREATE TABLE emergencies (
    key_id      BLOB    NOT NULL CHECK (length(key_id) = 8),
    sequence    INTEGER NOT NULL,
    time_ms     INTEGER NOT NULL,
    clock       INTEGER NOT NULL CHECK (clock BETWEEN 0 AND 2),   -- 0 unset: the time is worth nothing
    active      INTEGER NOT NULL CHECK (active IN (0, 1)),
    received_ms INTEGER NOT NULL,
    PRIMARY KEY (key_id, sequence)
) STRICT, WITHOUT ROWID;

CREATE INDEX emergencies_time ON emergencies (time_ms);
