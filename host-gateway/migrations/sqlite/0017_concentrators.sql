-- Operators' own concentrators: whose signed batches are taken, and of which gates. Keys are sealed under clearing's storage key.
CREATE TABLE concentrators (
    key_id     TEXT    NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL,
    gates      TEXT    NOT NULL,                                      -- numbers and ranges, such as 1-2,7-9
    sealed_key BLOB    NOT NULL,                                      -- bound to its key_id
    added_ms   INTEGER NOT NULL,
    retired_ms INTEGER
) STRICT, WITHOUT ROWID;

-- A name is used by one at a time.
CREATE UNIQUE INDEX concentrators_in_service ON concentrators (name) WHERE retired_ms IS NULL;
