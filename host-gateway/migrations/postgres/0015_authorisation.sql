-- Authorisation: what a token has at risk, what is held for it at the bank, and who is to be looked at.

-- When the bank last paid for a token, up to which tap that was, and the taps since.
CREATE TABLE risk_states (
    token_key       BYTEA NOT NULL PRIMARY KEY CHECK (length(token_key) = 16),
    last_paid_ms    BIGINT,                    -- by the gateway's clock; NULL: never
    paid_upto_ms    BIGINT,                    -- taps up to this time are paid
    first_tap_ms    BIGINT,                    -- the first tap after it; NULL: none
    last_tap_ms     BIGINT                     -- the newest tap that risk has looked at
);

-- Tokens whose fares so far are to be looked at, and from when on. A tap makes the row due at once, and its version another.
CREATE TABLE authorisation_due (
    token_key       BYTEA NOT NULL CHECK (length(token_key) = 16),
    service_day     BIGINT NOT NULL,
    version         BIGINT NOT NULL,
    due_ms          BIGINT NOT NULL,
    PRIMARY KEY (token_key, service_day)
);

-- Pre-authorisations, each numbered before it is sent to the bank.
CREATE TABLE holds (
    token_key       BYTEA NOT NULL CHECK (length(token_key) = 16),
    number          BIGINT NOT NULL,
    service_day     BIGINT NOT NULL,           -- of the tap that it was asked for
    account_id      TEXT COLLATE "C" NOT NULL,
    amount_fen      BIGINT NOT NULL,
    state           TEXT COLLATE "C" NOT NULL CHECK (state IN ('asked', 'in_doubt', 'active', 'declined', 'completed', 'released', 'expired')),
    reason          TEXT COLLATE "C",          -- of a decline
    asked_ms        BIGINT NOT NULL,
    expires_ms      BIGINT NOT NULL,
    PRIMARY KEY (token_key, number)
);
-- A token has one hold at a time: the database itself refuses another.
CREATE UNIQUE INDEX holds_one_open ON holds (token_key) WHERE state IN ('asked', 'in_doubt', 'active');

-- Denied tokens that were tapped again at a gate, and when last.
CREATE TABLE retaps (
    token_key       BYTEA NOT NULL PRIMARY KEY CHECK (length(token_key) = 16),
    at_ms           BIGINT NOT NULL
);

-- The hold that an attempt completes, decided with its number. NULL: none.
ALTER TABLE attempts ADD COLUMN hold_number BIGINT;

-- The embedded bank's holds: what of a balance is spoken for.
CREATE TABLE bank_holds (
    account_id      TEXT COLLATE "C" NOT NULL,
    hold            BYTEA NOT NULL,            -- the caller's name for it
    amount_fen      BIGINT NOT NULL,
    answer          TEXT COLLATE "C" NOT NULL, -- 'approved', or the decline's reason
    state           TEXT COLLATE "C" NOT NULL CHECK (state IN ('held', 'declined', 'completed', 'released')),
    expires_ms      BIGINT NOT NULL,
    PRIMARY KEY (account_id, hold)
);
CREATE INDEX bank_holds_held ON bank_holds (account_id) WHERE state = 'held';

-- Another cause for which a token is refused: `authorisation`.
ALTER TABLE deny_entries DROP CONSTRAINT deny_entries_cause_check;
ALTER TABLE deny_entries ADD CONSTRAINT deny_entries_cause_check
    CHECK (cause IN ('debt', 'clone', 'lost', 'manual', 'deleted', 'authorisation'));
