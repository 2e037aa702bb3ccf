-- Under which terms a day was first settled. It keeps them: what is settled of it later is what the whole day comes to under
-- them, less what was settled from that rank on.
CREATE TABLE settlement_terms (
    service_day      BIGINT NOT NULL PRIMARY KEY,
    from_rank        BIGINT NOT NULL,                                -- of a day that an older version settled: the next
    fee_basis_points BIGINT NOT NULL CHECK (fee_basis_points BETWEEN 0 AND 10000),
    weights          TEXT COLLATE "C" NOT NULL                       -- JSON: operator and weight of each
);
