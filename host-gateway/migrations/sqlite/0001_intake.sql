-- Intake: what gates sent, and what risk says of it. Nothing here identifies a rider: token_key is an HMAC under
-- a key outside the database, and the sealed entries open only with the clearing key.

-- One row for each journal entry that is durable here, exactly as the gate sealed it.
CREATE TABLE entries (
    key_id      BLOB    NOT NULL CHECK (length(key_id) = 8),
    sequence    INTEGER NOT NULL CHECK (sequence BETWEEN 1 AND 4294967295),
    counter     INTEGER NOT NULL,
    kind        INTEGER NOT NULL CHECK (kind IN (1, 2)),          -- 1 tap, 2 passage
    received_ms INTEGER NOT NULL,
    sealed      BLOB    NOT NULL,
    PRIMARY KEY (key_id, sequence)
) STRICT, WITHOUT ROWID;

-- A DUKPT key seals one entry (rule 3: a KSN counts once).
CREATE UNIQUE INDEX entries_counter ON entries (key_id, counter);

CREATE TABLE taps (
    key_id      BLOB    NOT NULL CHECK (length(key_id) = 8),
    sequence    INTEGER NOT NULL,
    token_key   BLOB    CHECK (length(token_key) = 16),
    time_ms     INTEGER NOT NULL,
    clock       INTEGER NOT NULL CHECK (clock BETWEEN 0 AND 2),   -- 0 unset, 1 free, 2 synchronised
    service_day INTEGER,
    station     TEXT    NOT NULL,
    direction   INTEGER NOT NULL CHECK (direction BETWEEN 0 AND 2), -- 0 entry, 1 exit, 2 single
    opened      INTEGER NOT NULL CHECK (opened IN (0, 1)),
    reason      INTEGER,                                          -- protocol::tap::Reason of a refusal
    atc         INTEGER,
    cryptogram  INTEGER NOT NULL CHECK (cryptogram BETWEEN 0 AND 3), -- 0 none, 1 valid, 2 invalid, 3 no key
    oda         INTEGER NOT NULL CHECK (oda BETWEEN 0 AND 2),     -- 0 not done, 1 passed, 2 failed
    card_digest BLOB,                                             -- of what the card answered: tells a copy from a repeat
    passage     INTEGER CHECK (passage BETWEEN 0 AND 2),          -- 0 not passed, 1 passed, 2 unknown
    withheld    INTEGER NOT NULL DEFAULT 0,                       -- bits, why it does not count: 1 same ATC, 2 cryptogram, 4 re-tap, 8 no token
    counted     INTEGER NOT NULL GENERATED ALWAYS AS (opened = 1 AND withheld = 0) VIRTUAL,
    checked     INTEGER NOT NULL DEFAULT 0 CHECK (checked IN (0, 1)),
    gate_us     INTEGER NOT NULL,                                 -- the gate's own work
    received_ms INTEGER NOT NULL,
    PRIMARY KEY (key_id, sequence)
) STRICT, WITHOUT ROWID;

-- Risk and pricing read one token's taps in order of time; the ATC is compared within them.
CREATE INDEX taps_token ON taps (token_key, time_ms) WHERE opened = 1;
CREATE INDEX taps_atc ON taps (token_key, atc, time_ms) WHERE opened = 1;
CREATE INDEX taps_day ON taps (service_day) WHERE opened = 1;
CREATE INDEX taps_unchecked ON taps (token_key) WHERE checked = 0 AND opened = 1;

-- Passages whose tap has not arrived: it was lost, or set aside and may yet be recovered.
CREATE TABLE passages_waiting (
    key_id  BLOB    NOT NULL,
    of      INTEGER NOT NULL,
    outcome INTEGER NOT NULL,
    PRIMARY KEY (key_id, of)
) STRICT, WITHOUT ROWID;

-- Every number up to `acked` of a key id is durable, set aside or known to be lost.
CREATE TABLE watermarks (
    key_id       BLOB    NOT NULL PRIMARY KEY CHECK (length(key_id) = 8),
    acked        INTEGER NOT NULL,
    last_counter INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Entries that could not be opened or did not fit what is known: kept whole, for a person to look at.
CREATE TABLE set_aside (
    id          TEXT    NOT NULL PRIMARY KEY,                     -- from the content
    key_id      BLOB,
    sequence    INTEGER,
    why         TEXT    NOT NULL,
    received_ms INTEGER NOT NULL,
    sealed      BLOB    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE alerts (
    id          TEXT    NOT NULL PRIMARY KEY,                     -- from the content
    kind        TEXT    NOT NULL,
    token_key   BLOB,
    key_id      BLOB,
    sequence    INTEGER,
    event_ms    INTEGER NOT NULL,
    service_day INTEGER,
    detail      TEXT    NOT NULL,
    raised_ms   INTEGER NOT NULL,
    cleared_ms  INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX alerts_token ON alerts (token_key);
CREATE INDEX alerts_time ON alerts (event_ms);

-- Who did what. Append-only.
CREATE TABLE audit_log (
    id      INTEGER PRIMARY KEY,
    at_ms   INTEGER NOT NULL,
    user    TEXT    NOT NULL,
    action  TEXT    NOT NULL,
    subject TEXT    NOT NULL,
    detail  TEXT    NOT NULL
) STRICT;

CREATE TRIGGER audit_log_stays BEFORE UPDATE ON audit_log BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_log_is_kept BEFORE DELETE ON audit_log BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
