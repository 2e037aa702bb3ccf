-- How the charges of a day are shared among operators: fixed when its close begins, whatever the configuration says later.
ALTER TABLE day_close ADD COLUMN shares TEXT COLLATE "C" NOT NULL DEFAULT 'fixed' CHECK (shares IN ('fixed', 'nominal', 'passenger_km'));

-- What an operator gets of a part of a charge, frozen when the part was booked. No rows where the day's shares are fixed.
CREATE TABLE charge_shares (
    service_day BIGINT NOT NULL,
    token_key   BYTEA   NOT NULL,
    part        BIGINT NOT NULL,
    operator    BIGINT NOT NULL,
    amount_fen  BIGINT NOT NULL CHECK (amount_fen <> 0), -- negative: given back
    PRIMARY KEY (service_day, token_key, part, operator)
);

-- A part is a fare, or gives something of another part back. Of a part that was not deducted yet the bank is asked for so
-- much less: the two parts are offset against each other, and their offsets sum to zero.
ALTER TABLE charges ADD COLUMN kind TEXT COLLATE "C" NOT NULL DEFAULT 'fare' CHECK (kind IN ('fare', 'refund'));
ALTER TABLE charges ADD COLUMN of_part BIGINT;                -- of a refund: the part that it gives back
ALTER TABLE charges ADD COLUMN offset_fen BIGINT NOT NULL DEFAULT 0;

-- Where riders said that a missing tap was.
CREATE TABLE corrections (
    token_key      BYTEA   NOT NULL,
    service_day    BIGINT NOT NULL,                          -- of the journey
    first_key      BYTEA   NOT NULL,                          -- the tap that there is: it names the journey
    first_sequence BIGINT NOT NULL,
    station        TEXT COLLATE "C" NOT NULL,
    told_ms        BIGINT,                                   -- when the missing tap was, as the rider says
    asked_ms       BIGINT NOT NULL,
    by             TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (token_key, service_day, first_key, first_sequence)
);

-- What riders dispute: a journey that was charged. After a rejection another may be opened.
CREATE TABLE disputes (
    token_key      BYTEA   NOT NULL,
    service_day    BIGINT NOT NULL,
    first_key      BYTEA   NOT NULL,
    first_sequence BIGINT NOT NULL,
    number         BIGINT NOT NULL,
    state          TEXT COLLATE "C" NOT NULL CHECK (state IN ('open', 'accepted', 'rejected')),
    reason         TEXT COLLATE "C" NOT NULL,
    opened_ms      BIGINT NOT NULL,
    opened_by      TEXT COLLATE "C" NOT NULL,
    decided_ms     BIGINT,
    decided_by     TEXT COLLATE "C",
    decision       TEXT COLLATE "C",
    PRIMARY KEY (token_key, service_day, first_key, first_sequence, number)
);
CREATE UNIQUE INDEX disputes_one_open ON disputes (token_key, service_day, first_key, first_sequence)
    WHERE state = 'open';

-- A dispute gives back once: the key is the dispute's.
CREATE TABLE refunds (
    token_key      BYTEA   NOT NULL,
    service_day    BIGINT NOT NULL,
    first_key      BYTEA   NOT NULL,
    first_sequence BIGINT NOT NULL,
    number         BIGINT NOT NULL,
    part           BIGINT NOT NULL,                          -- the part of the charge that gives back
    of_part        BIGINT NOT NULL,                          -- the part that it gives back
    amount_fen     BIGINT NOT NULL CHECK (amount_fen > 0),
    PRIMARY KEY (token_key, service_day, first_key, first_sequence, number)
);
CREATE UNIQUE INDEX refunds_part ON refunds (token_key, service_day, part);
