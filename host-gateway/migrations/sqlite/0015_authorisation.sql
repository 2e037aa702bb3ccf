-- Authorisation: what a token has at risk, what is held for it at the bank, and who is to be looked at.

-- When the bank last paid for a token, up to which tap that was, and the taps since.
CREATE TABLE risk_states (
    token_key    BLOB NOT NULL PRIMARY KEY CHECK (length(token_key) = 16),
    last_paid_ms INTEGER,                      -- by the gateway's clock; NULL: never
    paid_upto_ms INTEGER,                      -- taps up to this time are paid
    first_tap_ms INTEGER,                      -- the first tap after it; NULL: none
    last_tap_ms  INTEGER                       -- the newest tap that risk has looked at
) STRICT, WITHOUT ROWID;

-- Tokens whose fares so far are to be looked at, and from when on. A tap makes the row due at once, and its version another.
CREATE TABLE authorisation_due (
    token_key   BLOB    NOT NULL CHECK (length(token_key) = 16),
    service_day INTEGER NOT NULL,
    version     INTEGER NOT NULL,
    due_ms      INTEGER NOT NULL,
    PRIMARY KEY (token_key, service_day)
) STRICT, WITHOUT ROWID;

-- Pre-authorisations, each numbered before it is sent to the bank.
CREATE TABLE holds (
    token_key   BLOB    NOT NULL CHECK (length(token_key) = 16),
    number      INTEGER NOT NULL,
    service_day INTEGER NOT NULL,              -- of the tap that it was asked for
    account_id  TEXT    NOT NULL,
    amount_fen  INTEGER NOT NULL,
    state       TEXT    NOT NULL CHECK (state IN ('asked', 'in_doubt', 'active', 'declined', 'completed', 'released', 'expired')),
    reason      TEXT,                          -- of a decline
    asked_ms    INTEGER NOT NULL,
    expires_ms  INTEGER NOT NULL,
    PRIMARY KEY (token_key, number)
) STRICT, WITHOUT ROWID;
-- A token has one hold at a time: the database itself refuses another.
CREATE UNIQUE INDEX holds_one_open ON holds (token_key) WHERE state IN ('asked', 'in_doubt', 'active');

-- Denied tokens that were tapped again at a gate, and when last.
CREATE TABLE retaps (
    token_key BLOB    NOT NULL PRIMARY KEY CHECK (length(token_key) = 16),
    at_ms     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The hold that an attempt completes, decided with its number. NULL: none.
ALTER TABLE attempts ADD COLUMN hold_number INTEGER;

-- The embedded bank's holds: what of a balance is spoken for.
CREATE TABLE bank_holds (
    account_id TEXT    NOT NULL,
    hold       BLOB    NOT NULL,               -- the caller's name for it
    amount_fen INTEGER NOT NULL,
    answer     TEXT    NOT NULL,               -- 'approved', or the decline's reason
    state      TEXT    NOT NULL CHECK (state IN ('held', 'declined', 'completed', 'released')),
    expires_ms INTEGER NOT NULL,
    PRIMARY KEY (account_id, hold)
) STRICT, WITHOUT ROWID;
CREATE INDEX bank_holds_held ON bank_holds (account_id) WHERE state = 'held';

-- Another cause for which a token is refused: `authorisation`.
CREATE TABLE deny_entries_new (
    token_key    BLOB    NOT NULL CHECK (length(token_key) = 16),
    cause        TEXT    NOT NULL CHECK (cause IN ('debt', 'clone', 'lost', 'manual', 'deleted', 'authorisation')),
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
