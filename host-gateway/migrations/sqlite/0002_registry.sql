-- The registry: gates, tokens, and the lists that gates are sent. Nothing here identifies a rider: token_key is an
-- HMAC under a key outside the database, and tokens are sealed under the storage key.

-- One row for each commissioning. A gate's keys are derived, never stored.
CREATE TABLE gates (
    gate_id    INTEGER NOT NULL CHECK (gate_id BETWEEN 1 AND 4294967295),
    generation INTEGER NOT NULL CHECK (generation BETWEEN 1 AND 65535),
    key_id     BLOB    NOT NULL CHECK (length(key_id) = 8),
    station    TEXT    NOT NULL,
    direction  INTEGER NOT NULL CHECK (direction BETWEEN 0 AND 2), -- 0 entry, 1 exit, 2 single
    operator   INTEGER NOT NULL CHECK (operator BETWEEN 0 AND 65535),
    network    BLOB    NOT NULL CHECK (length(network) = 4),
    added_ms   INTEGER NOT NULL,
    retired_ms INTEGER,
    PRIMARY KEY (gate_id, generation)
) STRICT, WITHOUT ROWID;

-- A gate is in service under one key id at a time.
CREATE UNIQUE INDEX gates_in_service ON gates (gate_id) WHERE retired_ms IS NULL;
CREATE INDEX gates_key ON gates (key_id);

CREATE TABLE tokens (
    token_key    BLOB    NOT NULL PRIMARY KEY CHECK (length(token_key) = 16),
    account_id   TEXT    NOT NULL,
    rank         INTEGER NOT NULL CHECK (rank >= 0),               -- the account's first token is 0
    sealed_token BLOB    NOT NULL,
    last_four    TEXT    NOT NULL CHECK (length(last_four) = 4),
    expiry_yymm  INTEGER NOT NULL CHECK (expiry_yymm BETWEEN 1 AND 9912),
    psn          INTEGER NOT NULL CHECK (psn BETWEEN 0 AND 99),
    state        TEXT    NOT NULL CHECK (state IN ('active', 'suspended', 'deleted')),
    category     TEXT    NOT NULL,
    kind         TEXT    NOT NULL CHECK (kind IN ('phone', 'card')),
    issued_ms    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX tokens_account ON tokens (account_id, rank);
-- A new token is checked against the deny list in force, lest it hit by chance.
CREATE INDEX tokens_issued ON tokens (issued_ms);

-- Why a token is refused; one row for each cause, so that lifting one never lifts another.
CREATE TABLE deny_entries (
    token_key    BLOB    NOT NULL CHECK (length(token_key) = 16),
    cause        TEXT    NOT NULL CHECK (cause IN ('debt', 'clone', 'lost', 'manual', 'deleted')),
    sealed_token BLOB    NOT NULL,
    last_four    TEXT    NOT NULL,
    expiry_yymm  INTEGER NOT NULL,
    since_ms     INTEGER NOT NULL,
    note         TEXT    NOT NULL,
    by           TEXT    NOT NULL,
    PRIMARY KEY (token_key, cause)
) STRICT, WITHOUT ROWID;

-- Signed lists as gates receive them; the last few issues of each kind.
CREATE TABLE lists (
    kind      INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 4),       -- protocol::lists::Kind
    epoch     INTEGER NOT NULL CHECK (epoch >= 1),
    version   INTEGER NOT NULL CHECK (version >= 1),
    issued_ms INTEGER NOT NULL,
    source    BLOB    NOT NULL,                                    -- SHA-256 of what the content was made from
    bytes     BLOB    NOT NULL,
    PRIMARY KEY (kind, epoch, version)
) STRICT, WITHOUT ROWID;

-- What makes a version of the deny list from the one before, where gates take it so; the last few.
CREATE TABLE list_deltas (
    epoch   INTEGER NOT NULL CHECK (epoch >= 1),
    version INTEGER NOT NULL CHECK (version >= 2),
    delta   BLOB    NOT NULL,                                      -- protocol::deny::Delta
    PRIMARY KEY (epoch, version)
) STRICT, WITHOUT ROWID;

-- The epoch counts restorations of this database: gates refuse a version that they have passed.
CREATE TABLE list_epoch (
    only  INTEGER NOT NULL PRIMARY KEY CHECK (only = 1),
    epoch INTEGER NOT NULL CHECK (epoch >= 1)
) STRICT, WITHOUT ROWID;
INSERT INTO list_epoch (only, epoch) VALUES (1, 1);

CREATE TABLE ca_keys (
    rid         BLOB    NOT NULL CHECK (length(rid) = 5),
    key_index   INTEGER NOT NULL CHECK (key_index BETWEEN 0 AND 255),
    suite       TEXT    NOT NULL CHECK (suite IN ('p256', 'rsa', 'sm2')),
    expiry      BLOB    NOT NULL CHECK (length(expiry) = 4),       -- packed decimal YYYYMMDD
    public_key  BLOB    NOT NULL,
    exponent    BLOB    NOT NULL,
    check_value BLOB    NOT NULL CHECK (length(check_value) = 20),
    PRIMARY KEY (rid, key_index, suite)
) STRICT, WITHOUT ROWID;

CREATE TABLE revocations (
    rid        BLOB    NOT NULL CHECK (length(rid) = 5),
    key_index  INTEGER NOT NULL CHECK (key_index BETWEEN 0 AND 255),
    serial     BLOB    NOT NULL CHECK (length(serial) = 3),
    PRIMARY KEY (rid, key_index, serial)
) STRICT, WITHOUT ROWID;

-- How gates work: the content of the configuration list, as protocol::lists::GateConfig in postcard.
CREATE TABLE gate_config (
    only    INTEGER NOT NULL PRIMARY KEY CHECK (only = 1),
    content BLOB    NOT NULL
) STRICT, WITHOUT ROWID;
