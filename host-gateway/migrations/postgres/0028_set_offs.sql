-- What a day turns out cheaper is set off against what of the day the bank has not taken: part, a fare below zero, against
-- of_part, a fare above it. The bank is asked for so much less of both.
CREATE TABLE set_offs (
    service_day BIGINT  NOT NULL,
    token_key   BYTEA   NOT NULL,
    part        BIGINT  NOT NULL,
    of_part     BIGINT  NOT NULL,
    amount_fen  BIGINT  NOT NULL CHECK (amount_fen > 0),
    PRIMARY KEY (service_day, token_key, part, of_part)
);

-- Whose that is: what it takes from an operator's share of of_part, and of what part takes back. No rows where the day's
-- shares are fixed.
CREATE TABLE set_off_shares (
    service_day BIGINT  NOT NULL,
    token_key   BYTEA   NOT NULL,
    part        BIGINT  NOT NULL,
    of_part     BIGINT  NOT NULL,
    operator    BIGINT  NOT NULL,
    amount_fen  BIGINT  NOT NULL CHECK (amount_fen <> 0),
    PRIMARY KEY (service_day, token_key, part, of_part, operator)
);
