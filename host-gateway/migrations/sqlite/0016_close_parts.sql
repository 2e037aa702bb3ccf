-- A day is closed in parts, ranges of tokens, so that several can work on it; each part has its own cursor.
CREATE TABLE day_close_parts (
    service_day INTEGER NOT NULL,
    rank        INTEGER NOT NULL,
    shard       INTEGER NOT NULL,
    state       TEXT    NOT NULL CHECK (state IN ('pricing', 'sealed')),
    cursor      BLOB    NOT NULL,                                 -- the last token priced, at first what lies before all
    until       BLOB    NOT NULL,                                 -- what lies after all of the part's tokens: the cursor in the end
    forced      INTEGER NOT NULL,
    shares      TEXT    NOT NULL CHECK (shares IN ('fixed', 'nominal', 'passenger_km')),
    PRIMARY KEY (service_day, rank, shard)
) STRICT, WITHOUT ROWID;

INSERT INTO day_close_parts (service_day, rank, shard, state, cursor, until, forced, shares)
    SELECT service_day, rank, 0, state, cursor, x'ffffffffffffffffffffffffffffffffff', forced, shares FROM day_close;

DROP TABLE day_close;
ALTER TABLE day_close_parts RENAME TO day_close;
