-- Operators' own concentrators: whose signed batches are taken, and of which gates. Keys are sealed under clearing's storage key.
CREATE TABLE concentrators (
    key_id     TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    name       TEXT COLLATE "C" NOT NULL,
    gates      TEXT COLLATE "C" NOT NULL,                             -- numbers and ranges, such as 1-2,7-9
    sealed_key BYTEA NOT NULL,                                        -- bound to its key_id
    added_ms   BIGINT NOT NULL,
    retired_ms BIGINT
);

-- A name is used by one at a time.
CREATE UNIQUE INDEX concentrators_in_service ON concentrators (name) WHERE retired_ms IS NULL;
