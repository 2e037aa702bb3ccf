-- The schema on PostgreSQL: the same tables and columns as on SQLite, with one folder of migrations each. Text is compared by
-- its bytes, so that both databases give the same order.

-- Bytes as hexadecimal digits, as SQLite spells them.
CREATE FUNCTION hex(bytes BYTEA) RETURNS TEXT LANGUAGE SQL IMMUTABLE PARALLEL SAFE
    AS $$ SELECT upper(encode(bytes, 'hex')) $$;

CREATE FUNCTION refuse() RETURNS TRIGGER LANGUAGE plpgsql
    AS $$ BEGIN RAISE EXCEPTION '%', TG_ARGV[0]; END $$;

-- Intake: what gates sent, and what risk says of it. Nothing here identifies a rider: token_key is an HMAC under
-- a key outside the database, and the sealed entries open only with the clearing key.

-- One row for each journal entry that is durable here, exactly as the gate sealed it.
CREATE TABLE entries (
    key_id          BYTEA NOT NULL CHECK (length(key_id) = 8),
    sequence        BIGINT NOT NULL CHECK (sequence BETWEEN 1 AND 4294967295),
    counter         BIGINT NOT NULL,
    kind            SMALLINT NOT NULL CHECK (kind BETWEEN 1 AND 3),    -- 1 tap, 2 passage, 3 emergency
    received_ms     BIGINT NOT NULL,
    sealed          BYTEA NOT NULL,
    PRIMARY KEY (key_id, sequence)
);

-- A DUKPT key seals one entry (rule 3: a KSN counts once).
CREATE UNIQUE INDEX entries_counter ON entries (key_id, counter);

CREATE TABLE taps (
    key_id          BYTEA NOT NULL CHECK (length(key_id) = 8),
    sequence        BIGINT NOT NULL,
    token_key       BYTEA CHECK (length(token_key) = 16),
    time_ms         BIGINT NOT NULL,
    clock           SMALLINT NOT NULL CHECK (clock BETWEEN 0 AND 2),   -- 0 unset, 1 free, 2 synchronised
    service_day     BIGINT,
    station         TEXT COLLATE "C" NOT NULL,
    direction       SMALLINT NOT NULL CHECK (direction BETWEEN 0 AND 2), -- 0 entry, 1 exit, 2 single
    opened          SMALLINT NOT NULL CHECK (opened IN (0, 1)),
    reason          SMALLINT,                                          -- protocol::tap::Reason of a refusal
    atc             BIGINT,
    cryptogram      SMALLINT NOT NULL CHECK (cryptogram BETWEEN 0 AND 3), -- 0 none, 1 valid, 2 invalid, 3 no key
    oda             SMALLINT NOT NULL CHECK (oda BETWEEN 0 AND 2),     -- 0 not done, 1 passed, 2 failed
    card_digest     BYTEA,                                             -- of what the card answered: tells a copy from a repeat
    passage         SMALLINT CHECK (passage BETWEEN 0 AND 2),          -- 0 not passed, 1 passed, 2 unknown
    withheld        SMALLINT NOT NULL DEFAULT 0,                       -- bits, why it does not count: 1 same ATC, 2 cryptogram, 4 re-tap, 8 no token
    counted         SMALLINT NOT NULL GENERATED ALWAYS AS (CASE WHEN opened = 1 AND withheld = 0 THEN 1 ELSE 0 END) STORED,
    checked         SMALLINT NOT NULL DEFAULT 0 CHECK (checked IN (0, 1)),
    gate_us         BIGINT NOT NULL,                                   -- the gate's own work
    received_ms     BIGINT NOT NULL,
    PRIMARY KEY (key_id, sequence)
);

-- Risk and pricing read one token's taps in order of time; the ATC is compared within them.
CREATE INDEX taps_token ON taps (token_key, time_ms) WHERE opened = 1;
CREATE INDEX taps_atc ON taps (token_key, atc, time_ms) WHERE opened = 1;
CREATE INDEX taps_day ON taps (service_day) WHERE opened = 1;
CREATE INDEX taps_unchecked ON taps (token_key) WHERE checked = 0 AND opened = 1;

-- Passages whose tap has not arrived: it was lost, or set aside and may yet be recovered.
CREATE TABLE passages_waiting (
    key_id          BYTEA NOT NULL,
    of              BIGINT NOT NULL,
    outcome         BIGINT NOT NULL,
    PRIMARY KEY (key_id, of)
);

-- Every number up to `acked` of a key id is durable, set aside or known to be lost.
CREATE TABLE watermarks (
    key_id          BYTEA NOT NULL PRIMARY KEY CHECK (length(key_id) = 8),
    acked           BIGINT NOT NULL,
    last_counter    BIGINT NOT NULL,
    tail            BYTEA CHECK (length(tail) = 8)                     -- what the entry after `acked` must say of it; NULL where that entry is not here
);

-- Entries that could not be opened or did not fit what is known: kept whole, for a person to look at.
CREATE TABLE set_aside (
    id              TEXT COLLATE "C" NOT NULL PRIMARY KEY,             -- from the content
    key_id          BYTEA,
    sequence        BIGINT,
    why             TEXT COLLATE "C" NOT NULL,
    received_ms     BIGINT NOT NULL,
    sealed          BYTEA NOT NULL
);

CREATE TABLE alerts (
    id              TEXT COLLATE "C" NOT NULL PRIMARY KEY,             -- from the content
    kind            TEXT COLLATE "C" NOT NULL,
    token_key       BYTEA,
    key_id          BYTEA,
    sequence        BIGINT,
    event_ms        BIGINT NOT NULL,
    service_day     BIGINT,
    detail          TEXT COLLATE "C" NOT NULL,
    raised_ms       BIGINT NOT NULL,
    cleared_ms      BIGINT
);

CREATE INDEX alerts_token ON alerts (token_key);
CREATE INDEX alerts_time ON alerts (event_ms);

-- Who did what. Append-only.
CREATE TABLE audit_log (
    id              BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_ms           BIGINT NOT NULL,
    "user"          TEXT COLLATE "C" NOT NULL,
    action          TEXT COLLATE "C" NOT NULL,
    subject         TEXT COLLATE "C" NOT NULL,
    detail          TEXT COLLATE "C" NOT NULL
);

CREATE TRIGGER audit_log_stays BEFORE UPDATE ON audit_log FOR EACH ROW EXECUTE FUNCTION refuse('the audit log is append-only');
CREATE TRIGGER audit_log_is_kept BEFORE DELETE ON audit_log FOR EACH ROW EXECUTE FUNCTION refuse('the audit log is append-only');

CREATE TRIGGER audit_log_is_not_emptied BEFORE TRUNCATE ON audit_log EXECUTE FUNCTION refuse('the audit log is append-only');

-- The registry: gates, tokens, and the lists that gates are sent. Nothing here identifies a rider: token_key is an
-- HMAC under a key outside the database, and tokens are sealed under the storage key.

-- One row for each commissioning. A gate's keys are derived, never stored.
CREATE TABLE gates (
    gate_id         BIGINT NOT NULL CHECK (gate_id BETWEEN 1 AND 4294967295),
    generation      BIGINT NOT NULL CHECK (generation BETWEEN 1 AND 65535),
    key_id          BYTEA NOT NULL CHECK (length(key_id) = 8),
    station         TEXT COLLATE "C" NOT NULL,
    direction       SMALLINT NOT NULL CHECK (direction BETWEEN 0 AND 2), -- 0 entry, 1 exit, 2 single
    operator        BIGINT NOT NULL CHECK (operator BETWEEN 0 AND 65535),
    network         BYTEA NOT NULL CHECK (length(network) = 4),
    added_ms        BIGINT NOT NULL,
    retired_ms      BIGINT,
    PRIMARY KEY (gate_id, generation)
);

-- A gate is in service under one key id at a time.
CREATE UNIQUE INDEX gates_in_service ON gates (gate_id) WHERE retired_ms IS NULL;
CREATE INDEX gates_key ON gates (key_id);

CREATE TABLE tokens (
    token_key       BYTEA NOT NULL PRIMARY KEY CHECK (length(token_key) = 16),
    account_id      TEXT COLLATE "C" NOT NULL,
    rank            BIGINT NOT NULL CHECK (rank >= 0),                 -- the account's first token is 0
    sealed_token    BYTEA NOT NULL,
    last_four       TEXT COLLATE "C" NOT NULL CHECK (length(last_four) = 4),
    expiry_yymm     BIGINT NOT NULL CHECK (expiry_yymm BETWEEN 1 AND 9912),
    psn             SMALLINT NOT NULL CHECK (psn BETWEEN 0 AND 99),
    state           TEXT COLLATE "C" NOT NULL CHECK (state IN ('active', 'suspended', 'deleted')),
    category        TEXT COLLATE "C" NOT NULL,
    kind            TEXT COLLATE "C" NOT NULL CHECK (kind IN ('phone', 'card')),
    issued_ms       BIGINT NOT NULL
);

CREATE INDEX tokens_account ON tokens (account_id, rank);
-- A new token is checked against the deny list in force, lest it hit by chance.
CREATE INDEX tokens_issued ON tokens (issued_ms);

-- Why a token is refused; one row for each cause, so that lifting one never lifts another.
CREATE TABLE deny_entries (
    token_key       BYTEA NOT NULL CHECK (length(token_key) = 16),
    cause           TEXT COLLATE "C" NOT NULL CHECK (cause IN ('debt', 'clone', 'lost', 'manual', 'deleted')),
    sealed_token    BYTEA NOT NULL,
    last_four       TEXT COLLATE "C" NOT NULL,
    expiry_yymm     BIGINT NOT NULL,
    since_ms        BIGINT NOT NULL,
    note            TEXT COLLATE "C" NOT NULL,
    by              TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (token_key, cause)
);

-- Signed lists as gates receive them; the last few issues of each kind.
CREATE TABLE lists (
    kind            SMALLINT NOT NULL CHECK (kind BETWEEN 1 AND 4),    -- protocol::lists::Kind
    epoch           BIGINT NOT NULL CHECK (epoch >= 1),
    version         BIGINT NOT NULL CHECK (version >= 1),
    issued_ms       BIGINT NOT NULL,
    source          BYTEA NOT NULL,                                    -- SHA-256 of what the content was made from
    bytes           BYTEA NOT NULL,
    PRIMARY KEY (kind, epoch, version)
);

-- What makes a version of the deny list from the one before, where gates take it so; the last few.
CREATE TABLE list_deltas (
    epoch           BIGINT NOT NULL CHECK (epoch >= 1),
    version         BIGINT NOT NULL CHECK (version >= 2),
    delta           BYTEA NOT NULL,                                    -- protocol::deny::Delta
    PRIMARY KEY (epoch, version)
);

-- The epoch counts restorations of this database: gates refuse a version that they have passed.
CREATE TABLE list_epoch (
    "only"          BIGINT NOT NULL PRIMARY KEY CHECK ("only" = 1),
    epoch           BIGINT NOT NULL CHECK (epoch >= 1)
);
INSERT INTO list_epoch ("only", epoch) VALUES (1, 1);

CREATE TABLE ca_keys (
    rid             BYTEA NOT NULL CHECK (length(rid) = 5),
    key_index       BIGINT NOT NULL CHECK (key_index BETWEEN 0 AND 255),
    suite           TEXT COLLATE "C" NOT NULL CHECK (suite IN ('p256', 'rsa', 'sm2')),
    expiry          BYTEA NOT NULL CHECK (length(expiry) = 4),         -- packed decimal YYYYMMDD
    public_key      BYTEA NOT NULL,
    exponent        BYTEA NOT NULL,
    check_value     BYTEA NOT NULL CHECK (length(check_value) = 20),
    PRIMARY KEY (rid, key_index, suite)
);

CREATE TABLE revocations (
    rid             BYTEA NOT NULL CHECK (length(rid) = 5),
    key_index       BIGINT NOT NULL CHECK (key_index BETWEEN 0 AND 255),
    serial          BYTEA NOT NULL CHECK (length(serial) = 3),
    since_ms        BIGINT NOT NULL,
    by              TEXT COLLATE "C" NOT NULL,
    note            TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (rid, key_index, serial)
);

-- How gates work: the content of the configuration list, as protocol::lists::GateConfig in postcard.
CREATE TABLE gate_config (
    "only"          BIGINT NOT NULL PRIMARY KEY CHECK ("only" = 1),
    content         BYTEA NOT NULL
);

-- Money: journeys, charges, batches, attempts, debts, the ledger, settlement, breaks, and the embedded bank.
-- Owner: clearing, ledger, bank, settlement, reconcile. Every key contains the shard key (token_key, account_id, or
-- the operator's in the ledger), the service day first so that a day's rows lie together. Amounts are fen.

-- The opened taps of a UTC day by token: how clearing reads a day in token order with bounded memory.
CREATE INDEX taps_by_utc_day ON taps ((time_ms / 86400000), token_key) WHERE opened = 1;

-- The published tariffs, each in force from a date until the next; the text is the file as it was checked.
CREATE TABLE tariffs (
    effective_from  BIGINT NOT NULL PRIMARY KEY,
    version         TEXT COLLATE "C" NOT NULL,
    text            TEXT COLLATE "C" NOT NULL
);

CREATE TABLE journeys (
    service_day     BIGINT NOT NULL,
    token_key       BYTEA NOT NULL,
    first_key       BYTEA NOT NULL,                                    -- the tap that names the journey: key id, sequence
    first_sequence  BIGINT NOT NULL,
    part            BIGINT NOT NULL,                                   -- the charge part that recorded it
    second_key      BYTEA,
    second_sequence BIGINT,
    from_station    TEXT COLLATE "C",
    entered_ms      BIGINT,
    to_station      TEXT COLLATE "C",
    left_ms         BIGINT,
    nominal_fen     BIGINT NOT NULL,
    charged_fen     BIGINT NOT NULL,
    status          TEXT COLLATE "C" NOT NULL,
    superseded_by   BIGINT,                                            -- the later part that replaced it; NULL: it stands
    PRIMARY KEY (service_day, token_key, first_key, first_sequence, part)
);

CREATE TABLE adjustments (
    service_day     BIGINT NOT NULL,
    token_key       BYTEA NOT NULL,
    part            BIGINT NOT NULL,
    rank            BIGINT NOT NULL,
    kind            TEXT COLLATE "C" NOT NULL,
    amount_fen      BIGINT NOT NULL,
    PRIMARY KEY (service_day, token_key, part, rank)
);

CREATE TABLE charges (
    service_day     BIGINT NOT NULL,
    token_key       BYTEA NOT NULL,
    part            BIGINT NOT NULL,                                   -- 1, then adjustments after the close: 2, 3, …
    rank            BIGINT NOT NULL,                                   -- the day's batch that carries it
    amount_fen      BIGINT NOT NULL,                                   -- negative: a refund
    state           TEXT COLLATE "C" NOT NULL CHECK (state IN ('open', 'sent', 'in_doubt', 'deducted', 'declined', 'waived')),
    attempts        BIGINT NOT NULL DEFAULT 0,                         -- the number of the last attempt
    PRIMARY KEY (service_day, token_key, part)
);
-- What still has to be asked or resolved, in the order in which it is asked.
CREATE INDEX charges_unfinished ON charges (service_day, state, token_key, part)
    WHERE state IN ('open', 'sent', 'in_doubt', 'declined');

-- How far the close of a day has come; rank 0 is the close, later ranks gather what came late.
CREATE TABLE day_close (
    service_day     BIGINT NOT NULL,
    rank            BIGINT NOT NULL,
    state           TEXT COLLATE "C" NOT NULL CHECK (state IN ('pricing', 'sealed')),
    cursor          BYTEA NOT NULL,                                    -- the last token priced
    forced          BIGINT NOT NULL,
    PRIMARY KEY (service_day, rank)
);

CREATE TABLE batches (
    service_day     BIGINT NOT NULL,
    rank            BIGINT NOT NULL,
    number          BIGINT NOT NULL UNIQUE,                            -- its place in the chain, from 1
    charges         BIGINT NOT NULL,
    total_fen       BIGINT NOT NULL,
    previous_hash   BYTEA NOT NULL,
    hash            BYTEA NOT NULL,                                    -- SHA-256, see clearing::batch
    PRIMARY KEY (service_day, rank)
);

CREATE TABLE attempts (
    service_day     BIGINT NOT NULL,
    token_key       BYTEA NOT NULL,
    part            BIGINT NOT NULL,
    attempt_no      BIGINT NOT NULL,
    account_id      TEXT COLLATE "C" NOT NULL,                         -- '' where the token belongs to no e-account
    amount_fen      BIGINT NOT NULL,
    state           TEXT COLLATE "C" NOT NULL CHECK (state IN ('sent', 'in_doubt', 'approved', 'declined', 'reversed')),
    reason          TEXT COLLATE "C",                                  -- of a decline
    PRIMARY KEY (service_day, token_key, part, attempt_no)
);
-- A charge is deducted at most once and has one attempt open at a time: the database itself refuses another.
CREATE UNIQUE INDEX attempts_one_open ON attempts (service_day, token_key, part)
    WHERE state IN ('sent', 'in_doubt', 'approved');

CREATE TABLE debts (
    token_key       BYTEA NOT NULL,
    service_day     BIGINT NOT NULL,
    part            BIGINT NOT NULL,
    amount_fen      BIGINT NOT NULL,
    reason          TEXT COLLATE "C" NOT NULL,
    state           TEXT COLLATE "C" NOT NULL CHECK (state IN ('open', 'recovered', 'waived')),
    PRIMARY KEY (token_key, service_day, part)
);

-- The ledger. A transaction's name derives from what it books, so that nothing can be booked twice.
CREATE TABLE ledger_transactions (
    service_day     BIGINT NOT NULL,
    shard           BYTEA NOT NULL,                                    -- the token_key, or the operator's
    part            BIGINT NOT NULL,
    event           BIGINT NOT NULL,
    kind            TEXT COLLATE "C" NOT NULL,
    at_ms           BIGINT NOT NULL,                                   -- the end of the service day: never the wall clock
    PRIMARY KEY (service_day, shard, part, event)
);
CREATE TABLE ledger_postings (
    service_day     BIGINT NOT NULL,
    shard           BYTEA NOT NULL,
    part            BIGINT NOT NULL,
    event           BIGINT NOT NULL,
    line            BIGINT NOT NULL,
    account         TEXT COLLATE "C" NOT NULL,
    amount_fen      BIGINT NOT NULL,                                   -- debit positive, credit negative
    PRIMARY KEY (service_day, shard, part, event, line)
);
CREATE TRIGGER ledger_transactions_stay BEFORE UPDATE ON ledger_transactions FOR EACH ROW EXECUTE FUNCTION refuse('the ledger is append-only');
CREATE TRIGGER ledger_transactions_are_kept BEFORE DELETE ON ledger_transactions FOR EACH ROW EXECUTE FUNCTION refuse('the ledger is append-only');
CREATE TRIGGER ledger_transactions_are_not_emptied BEFORE TRUNCATE ON ledger_transactions EXECUTE FUNCTION refuse('the ledger is append-only');
CREATE TRIGGER ledger_postings_stay BEFORE UPDATE ON ledger_postings FOR EACH ROW EXECUTE FUNCTION refuse('the ledger is append-only');
CREATE TRIGGER ledger_postings_are_kept BEFORE DELETE ON ledger_postings FOR EACH ROW EXECUTE FUNCTION refuse('the ledger is append-only');
CREATE TRIGGER ledger_postings_are_not_emptied BEFORE TRUNCATE ON ledger_postings EXECUTE FUNCTION refuse('the ledger is append-only');

CREATE TABLE settlements (
    operator        BIGINT NOT NULL,
    service_day     BIGINT NOT NULL,
    rank            BIGINT NOT NULL,                                   -- 0 first, then what changed since
    deducted_fen    BIGINT NOT NULL,                                   -- this operator's share
    sponsored_fen   BIGINT NOT NULL,
    covered_fen     BIGINT NOT NULL,
    fees_fen        BIGINT NOT NULL,
    settled_fen     BIGINT NOT NULL,
    PRIMARY KEY (operator, service_day, rank)
);

-- Differences that somebody must look at; the id derives from content, so that one difference is one row.
CREATE TABLE breaks (
    id              TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    kind            TEXT COLLATE "C" NOT NULL,
    subject         TEXT COLLATE "C" NOT NULL,
    service_day     BIGINT,
    detail          TEXT COLLATE "C" NOT NULL,
    opened_ms       BIGINT NOT NULL,
    closed_ms       BIGINT
);
CREATE INDEX breaks_open ON breaks (service_day, kind) WHERE closed_ms IS NULL;

-- The embedded bank: a party of its own, reached only through bank::BankConnector.
CREATE TABLE bank_accounts (
    account_id      TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    class           SMALLINT NOT NULL CHECK (class IN (2, 3)),
    state           TEXT COLLATE "C" NOT NULL CHECK (state IN ('open', 'frozen', 'closed')),
    balance_fen     BIGINT NOT NULL CHECK (balance_fen >= 0),
    spent_on        BIGINT NOT NULL DEFAULT 0,                         -- the calendar day (Asia/Shanghai) that day_spent_fen counts
    day_spent_fen   BIGINT NOT NULL DEFAULT 0,
    spent_in        BIGINT NOT NULL DEFAULT 0,                         -- the calendar year that year_spent_fen counts
    year_spent_fen  BIGINT NOT NULL DEFAULT 0
);
CREATE TABLE bank_postings (
    account_id      TEXT COLLATE "C" NOT NULL,
    entry           BYTEA NOT NULL,                                    -- the attempt, or the caller's key of a deposit
    line            BIGINT NOT NULL,
    side            TEXT COLLATE "C" NOT NULL CHECK (side IN ('account', 'transit', 'bound')),
    amount_fen      BIGINT NOT NULL,                                   -- credit positive: what the bank owes grows
    at_ms           BIGINT NOT NULL,
    PRIMARY KEY (account_id, entry, line)
);
CREATE TRIGGER bank_postings_stay BEFORE UPDATE ON bank_postings FOR EACH ROW EXECUTE FUNCTION refuse('the bank''s postings are append-only');
CREATE TRIGGER bank_postings_are_kept BEFORE DELETE ON bank_postings FOR EACH ROW EXECUTE FUNCTION refuse('the bank''s postings are append-only');
CREATE TRIGGER bank_postings_are_not_emptied BEFORE TRUNCATE ON bank_postings EXECUTE FUNCTION refuse('the bank''s postings are append-only');
CREATE TABLE bank_answers (
    account_id      TEXT COLLATE "C" NOT NULL,
    entry           BYTEA NOT NULL,
    service_day     BIGINT NOT NULL,
    amount_fen      BIGINT NOT NULL,
    answer          TEXT COLLATE "C" NOT NULL,                         -- 'approved', or the decline's reason
    PRIMARY KEY (account_id, entry)
);
-- The statement of a day, in the order of attempts.
CREATE INDEX bank_answers_by_day ON bank_answers (service_day, entry) WHERE answer = 'approved';


-- A gate's emergency input went on or off.
CREATE TABLE emergencies (
    key_id          BYTEA NOT NULL CHECK (length(key_id) = 8),
    sequence        BIGINT NOT NULL,
    time_ms         BIGINT NOT NULL,
    clock           SMALLINT NOT NULL CHECK (clock BETWEEN 0 AND 2),   -- 0 unset: the time is worth nothing
    active          SMALLINT NOT NULL CHECK (active IN (0, 1)),
    received_ms     BIGINT NOT NULL,
    PRIMARY KEY (key_id, sequence)
);

CREATE INDEX emergencies_time ON emergencies (time_ms);
