-- Files that the bank and the network sent, and what became of their lines.

-- A file that was taken in, named by its content: taken again, it changes nothing.
CREATE TABLE taken_files (
    kind        TEXT COLLATE "C" NOT NULL CHECK (kind IN ('answers', 'statement', 'network')),
    hash        BYTEA   NOT NULL CHECK (length(hash) = 32),        -- SHA-256 of its bytes
    service_day BIGINT,                                           -- the day whose file it is; answers have none
    bytes       BIGINT NOT NULL,
    lines       BIGINT NOT NULL,
    sum_fen     BIGINT NOT NULL,
    done        BIGINT NOT NULL,                                  -- lines that are booked: all, or where a crash left it
    taken_ms    BIGINT NOT NULL,
    by          TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (kind, hash)
);
-- The files of a day: whether the neighbouring day's has come.
CREATE INDEX taken_files_by_day ON taken_files (kind, service_day);

-- A line of theirs, under the name of ours that it gives. A line that names nothing of ours has a hash for a token's key.
CREATE TABLE their_lines (
    source      TEXT COLLATE "C" NOT NULL CHECK (source IN ('statement', 'network')),
    service_day BIGINT NOT NULL,                                  -- of the name
    token_key   BYTEA   NOT NULL,
    part        BIGINT NOT NULL,
    attempt_no  BIGINT NOT NULL,                                  -- 0 in a network's file, which knows charges
    copy        BIGINT NOT NULL,                                  -- 0, then those that repeat the name
    file_day    BIGINT NOT NULL,                                  -- the day whose file it came in
    number      BIGINT NOT NULL,                                  -- its place in that file, from 1
    amount_fen  BIGINT NOT NULL,
    state       TEXT COLLATE "C" NOT NULL CHECK (state IN ('matched', 'amount_diff', 'missing_ours', 'duplicate', 'cutoff_slip')),
    PRIMARY KEY (source, service_day, token_key, part, attempt_no, copy)
);
-- What is not matched, by the file it came in and by the day it names: few of many.
CREATE INDEX their_lines_of_file ON their_lines (source, file_day, state) WHERE state <> 'matched';
CREATE INDEX their_lines_of_day ON their_lines (source, service_day, state) WHERE state <> 'matched';

-- Time slices with taps that were not held against what came of them, by gate, five minutes each.
CREATE TABLE open_slices (
    start_ms    BIGINT NOT NULL,
    key_id      BYTEA   NOT NULL CHECK (length(key_id) = 8),
    PRIMARY KEY (start_ms, key_id)
);
-- The taps of a slice. Time mostly grows, so that rows go in at the index's end.
CREATE INDEX taps_time ON taps (time_ms);

-- Who ended a break and why, and what it is about in money: what the sums differ by.
ALTER TABLE breaks ADD COLUMN ended_by TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE breaks ADD COLUMN end_reason TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE breaks ADD COLUMN amount_fen BIGINT;
