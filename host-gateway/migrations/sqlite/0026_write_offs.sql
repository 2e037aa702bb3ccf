-- Write-offs: the state `written_off` of charges and debts, and a cause of its own on the deny list. The columns are as they
-- were, in the same order.

CREATE TABLE charges_new (
    service_day INTEGER NOT NULL,
    token_key   BLOB    NOT NULL,
    part        INTEGER NOT NULL,              -- 1, then adjustments after the close: 2, 3, …
    rank        INTEGER NOT NULL,              -- the day's batch that carries it
    amount_fen  INTEGER NOT NULL,              -- negative: a refund
    state       TEXT    NOT NULL CHECK (state IN ('open', 'sent', 'in_doubt', 'deducted', 'declined', 'waived', 'written_off')),
    attempts    INTEGER NOT NULL DEFAULT 0,    -- the number of the last attempt
    kind        TEXT    NOT NULL DEFAULT 'fare' CHECK (kind IN ('fare', 'refund')),
    of_part     INTEGER,                       -- of a refund: the part that it gives back
    offset_fen  INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (service_day, token_key, part)
) STRICT, WITHOUT ROWID;
INSERT INTO charges_new SELECT service_day, token_key, part, rank, amount_fen, state, attempts, kind, of_part, offset_fen FROM charges;
DROP TABLE charges;
ALTER TABLE charges_new RENAME TO charges;
CREATE INDEX charges_unfinished ON charges (service_day, state, token_key, part)
    WHERE state IN ('open', 'sent', 'in_doubt', 'declined');

CREATE TABLE debts_new (
    token_key   BLOB    NOT NULL,
    service_day INTEGER NOT NULL,
    part        INTEGER NOT NULL,
    amount_fen  INTEGER NOT NULL,
    reason      TEXT    NOT NULL,
    state       TEXT    NOT NULL CHECK (state IN ('open', 'recovered', 'waived', 'written_off')),
    asked_ms    INTEGER,
    PRIMARY KEY (token_key, service_day, part)
) STRICT, WITHOUT ROWID;
INSERT INTO debts_new SELECT token_key, service_day, part, amount_fen, reason, state, asked_ms FROM debts;
DROP TABLE debts;
ALTER TABLE debts_new RENAME TO debts;
CREATE INDEX debts_open ON debts (service_day, token_key, part) WHERE state = 'open';

CREATE TABLE deny_entries_new (
    token_key    BLOB    NOT NULL CHECK (length(token_key) = 16),
    cause        TEXT    NOT NULL CHECK (cause IN ('debt', 'clone', 'lost', 'manual', 'deleted', 'authorisation', 'written_off')),
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

-- Why an attempt is declined without the bank being asked, decided with its number. NULL: the bank is asked.
ALTER TABLE attempts ADD COLUMN unasked TEXT;
