-- What is kept how long: people who were erased, service days whose taps were deleted, and what of them rule 3 still needs.

-- An e-account whose person was erased: a keyed digest of its name, so that asking again can be told so.
CREATE TABLE erasures (
    account_index BYTEA NOT NULL PRIMARY KEY CHECK (length(account_index) = 16),
    erased_ms     BIGINT NOT NULL
);

-- A token's refused taps; the opened ones are found by taps_atc.
CREATE INDEX taps_refused ON taps (token_key) WHERE opened = 0;

-- Service days whose taps were deleted, or are being.
CREATE TABLE deleted_days (
    service_day BIGINT NOT NULL PRIMARY KEY,
    state       TEXT COLLATE "C" NOT NULL CHECK (state IN ('deleting', 'deleted'))
);

-- Runs of a gate's entries that were here and are deleted: an entry that comes again for a place or with a counter in
-- one of them is known.
CREATE TABLE forgotten_entries (
    key_id        BYTEA NOT NULL CHECK (length(key_id) = 8),
    from_sequence BIGINT NOT NULL,
    upto_sequence BIGINT NOT NULL,
    from_counter  BIGINT NOT NULL,
    upto_counter  BIGINT NOT NULL,
    PRIMARY KEY (key_id, from_sequence)
);

-- The highest ATC among a token's counted taps that are deleted: neither it nor a lower one counts again.
CREATE TABLE forgotten_atcs (
    token_key BYTEA NOT NULL PRIMARY KEY CHECK (length(token_key) = 16),
    atc       BIGINT NOT NULL
);

-- The audit log stays, but for the name of an e-account whose person was erased.
DROP TRIGGER audit_log_stays ON audit_log;
CREATE TRIGGER audit_log_stays BEFORE UPDATE ON audit_log FOR EACH ROW
    WHEN (NOT (NEW.id = OLD.id AND NEW.at_ms = OLD.at_ms AND NEW."user" = OLD."user" AND NEW.action = OLD.action
        AND NEW.subject IN (OLD.subject, 'erased') AND NEW.detail = 'erased'
        AND OLD.action IN ('token.issue', 'token.register', 'account.open', 'account.deposit')))
    EXECUTE FUNCTION refuse('the audit log is append-only');

-- So do the bank's postings.
DROP TRIGGER bank_postings_stay ON bank_postings;
CREATE TRIGGER bank_postings_stay BEFORE UPDATE ON bank_postings FOR EACH ROW
    WHEN (NOT (NEW.entry = OLD.entry AND NEW.line = OLD.line AND NEW.side = OLD.side AND NEW.amount_fen = OLD.amount_fen
        AND NEW.at_ms = OLD.at_ms AND NEW.account_id LIKE 'erased-%'))
    EXECUTE FUNCTION refuse('the bank''s postings are append-only');
