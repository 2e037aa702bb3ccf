-- Money: journeys, charges, batches, attempts, debts, the ledger, settlement, breaks, and the embedded bank.
-- Owner: clearing, ledger, bank, settlement, reconcile. Every key contains the shard key (token_key, account_id, or
-- the operator's in the ledger), the service day first so that a day's rows lie together. Amounts are fen.

-- The opened taps of a UTC day by token: how clearing reads a day in token order with bounded memory.
CREATE INDEX taps_by_utc_day ON taps (time_ms / 86400000, token_key) WHERE opened = 1;

-- The published tariffs, each in force from a date until the next; the text is the file as it was checked.
CREATE TABLE tariffs (
    effective_from INTEGER NOT NULL PRIMARY KEY,
    version        TEXT    NOT NULL,
    text           TEXT    NOT NULL
) STRICT;

CREATE TABLE journeys (
    service_day    INTEGER NOT NULL,
    token_key      BLOB    NOT NULL,
    first_key      BLOB    NOT NULL,           -- the tap that names the journey: key id, sequence
    first_sequence INTEGER NOT NULL,
    part           INTEGER NOT NULL,           -- the charge part that recorded it
    second_key     BLOB,
    second_sequence INTEGER,
    from_station   TEXT,
    entered_ms     INTEGER,
    to_station     TEXT,
    left_ms        INTEGER,
    nominal_fen    INTEGER NOT NULL,
    charged_fen    INTEGER NOT NULL,
    status         TEXT    NOT NULL,
    superseded_by  INTEGER,                    -- the later part that replaced it; NULL: it stands
    PRIMARY KEY (service_day, token_key, first_key, first_sequence, part)
) STRICT, WITHOUT ROWID;

CREATE TABLE adjustments (
    service_day INTEGER NOT NULL,
    token_key   BLOB    NOT NULL,
    part        INTEGER NOT NULL,
    rank        INTEGER NOT NULL,
    kind        TEXT    NOT NULL,
    amount_fen  INTEGER NOT NULL,
    PRIMARY KEY (service_day, token_key, part, rank)
) STRICT, WITHOUT ROWID;

CREATE TABLE charges (
    service_day INTEGER NOT NULL,
    token_key   BLOB    NOT NULL,
    part        INTEGER NOT NULL,              -- 1, then adjustments after the close: 2, 3, …
    rank        INTEGER NOT NULL,              -- the day's batch that carries it
    amount_fen  INTEGER NOT NULL,              -- negative: a refund
    state       TEXT    NOT NULL CHECK (state IN ('open', 'sent', 'in_doubt', 'deducted', 'declined', 'waived')),
    attempts    INTEGER NOT NULL DEFAULT 0,    -- the number of the last attempt
    PRIMARY KEY (service_day, token_key, part)
) STRICT, WITHOUT ROWID;
-- What still has to be asked or resolved, in the order in which it is asked.
CREATE INDEX charges_unfinished ON charges (service_day, state, token_key, part)
    WHERE state IN ('open', 'sent', 'in_doubt', 'declined');

-- How far the close of a day has come; rank 0 is the close, later ranks gather what came late.
CREATE TABLE day_close (
    service_day INTEGER NOT NULL,
    rank        INTEGER NOT NULL,
    state       TEXT    NOT NULL CHECK (state IN ('pricing', 'sealed')),
    cursor      BLOB    NOT NULL,              -- the last token priced
    forced      INTEGER NOT NULL,
    PRIMARY KEY (service_day, rank)
) STRICT, WITHOUT ROWID;

CREATE TABLE batches (
    service_day   INTEGER NOT NULL,
    rank          INTEGER NOT NULL,
    number        INTEGER NOT NULL UNIQUE,     -- its place in the chain, from 1
    charges       INTEGER NOT NULL,
    total_fen     INTEGER NOT NULL,
    previous_hash BLOB    NOT NULL,
    hash          BLOB    NOT NULL,            -- SHA-256, see clearing::batch
    PRIMARY KEY (service_day, rank)
) STRICT, WITHOUT ROWID;

CREATE TABLE attempts (
    service_day INTEGER NOT NULL,
    token_key   BLOB    NOT NULL,
    part        INTEGER NOT NULL,
    attempt_no  INTEGER NOT NULL,
    account_id  TEXT    NOT NULL,              -- '' where the token belongs to no e-account
    amount_fen  INTEGER NOT NULL,
    state       TEXT    NOT NULL CHECK (state IN ('sent', 'in_doubt', 'approved', 'declined', 'reversed')),
    reason      TEXT,                          -- of a decline
    PRIMARY KEY (service_day, token_key, part, attempt_no)
) STRICT, WITHOUT ROWID;
-- A charge is deducted at most once and has one attempt open at a time: the database itself refuses another.
CREATE UNIQUE INDEX attempts_one_open ON attempts (service_day, token_key, part)
    WHERE state IN ('sent', 'in_doubt', 'approved');

CREATE TABLE debts (
    token_key   BLOB    NOT NULL,
    service_day INTEGER NOT NULL,
    part        INTEGER NOT NULL,
    amount_fen  INTEGER NOT NULL,
    reason      TEXT    NOT NULL,
    state       TEXT    NOT NULL CHECK (state IN ('open', 'recovered', 'waived')),
    PRIMARY KEY (token_key, service_day, part)
) STRICT, WITHOUT ROWID;

-- The ledger. A transaction's name derives from what it books, so that nothing can be booked twice.
CREATE TABLE ledger_transactions (
    service_day INTEGER NOT NULL,
    shard       BLOB    NOT NULL,              -- the token_key, or the operator's
    part        INTEGER NOT NULL,
    event       INTEGER NOT NULL,
    kind        TEXT    NOT NULL,
    at_ms       INTEGER NOT NULL,              -- the end of the service day: never the wall clock
    PRIMARY KEY (service_day, shard, part, event)
) STRICT, WITHOUT ROWID;
CREATE TABLE ledger_postings (
    service_day INTEGER NOT NULL,
    shard       BLOB    NOT NULL,
    part        INTEGER NOT NULL,
    event       INTEGER NOT NULL,
    line        INTEGER NOT NULL,
    account     TEXT    NOT NULL,
    amount_fen  INTEGER NOT NULL,              -- debit positive, credit negative
    PRIMARY KEY (service_day, shard, part, event, line)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER ledger_transactions_stay BEFORE UPDATE ON ledger_transactions
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER ledger_transactions_are_kept BEFORE DELETE ON ledger_transactions
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER ledger_postings_stay BEFORE UPDATE ON ledger_postings
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER ledger_postings_are_kept BEFORE DELETE ON ledger_postings
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;

CREATE TABLE settlements (
    operator      INTEGER NOT NULL,
    service_day   INTEGER NOT NULL,
    rank          INTEGER NOT NULL,            -- 0 first, then what changed since
    deducted_fen  INTEGER NOT NULL,            -- this operator's share
    sponsored_fen INTEGER NOT NULL,
    covered_fen   INTEGER NOT NULL,
    fees_fen      INTEGER NOT NULL,
    settled_fen   INTEGER NOT NULL,
    PRIMARY KEY (operator, service_day, rank)
) STRICT, WITHOUT ROWID;

-- Differences that somebody must look at; the id derives from content, so that one difference is one row.
CREATE TABLE breaks (
    id          TEXT    NOT NULL PRIMARY KEY,
    kind        TEXT    NOT NULL,
    subject     TEXT    NOT NULL,
    service_day INTEGER,
    detail      TEXT    NOT NULL,
    opened_ms   INTEGER NOT NULL,
    closed_ms   INTEGER
) STRICT;
CREATE INDEX breaks_open ON breaks (service_day, kind) WHERE closed_ms IS NULL;

-- The embedded bank: a party of its own, reached only through bank::BankConnector.
CREATE TABLE bank_accounts (
    account_id    TEXT    NOT NULL PRIMARY KEY,
    class         INTEGER NOT NULL CHECK (class IN (2, 3)),
    state         TEXT    NOT NULL CHECK (state IN ('open', 'frozen', 'closed')),
    balance_fen   INTEGER NOT NULL CHECK (balance_fen >= 0),
    spent_on      INTEGER NOT NULL DEFAULT 0,  -- the calendar day (Asia/Shanghai) that day_spent_fen counts
    day_spent_fen INTEGER NOT NULL DEFAULT 0,
    spent_in      INTEGER NOT NULL DEFAULT 0,  -- the calendar year that year_spent_fen counts
    year_spent_fen INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE TABLE bank_postings (
    account_id TEXT    NOT NULL,
    entry      BLOB    NOT NULL,               -- the attempt, or the caller's key of a deposit
    line       INTEGER NOT NULL,
    side       TEXT    NOT NULL CHECK (side IN ('account', 'transit', 'bound')),
    amount_fen INTEGER NOT NULL,               -- credit positive: what the bank owes grows
    at_ms      INTEGER NOT NULL,
    PRIMARY KEY (account_id, entry, line)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER bank_postings_stay BEFORE UPDATE ON bank_postings
    BEGIN SELECT RAISE(ABORT, 'the bank''s postings are append-only'); END;
CREATE TRIGGER bank_postings_are_kept BEFORE DELETE ON bank_postings
    BEGIN SELECT RAISE(ABORT, 'the bank''s postings are append-only'); END;
CREATE TABLE bank_answers (
    account_id  TEXT    NOT NULL,
    entry       BLOB    NOT NULL,
    service_day INTEGER NOT NULL,
    amount_fen  INTEGER NOT NULL,
    answer      TEXT    NOT NULL,              -- 'approved', or the decline's reason
    PRIMARY KEY (account_id, entry)
) STRICT, WITHOUT ROWID;
-- The statement of a day, in the order of attempts.
CREATE INDEX bank_answers_by_day ON bank_answers (service_day, entry) WHERE answer = 'approved';
