-- A token's newest taps: from when on they are here, then the time, the station's hash and the direction of each. NULL: what was
-- there before, which risk looks up.
ALTER TABLE risk_states ADD COLUMN recent BYTEA;

-- Two more causes for which a token is refused: `passback` and `travel`.
ALTER TABLE deny_entries DROP CONSTRAINT deny_entries_cause_check;
ALTER TABLE deny_entries ADD CONSTRAINT deny_entries_cause_check
    CHECK (cause IN ('debt', 'clone', 'lost', 'manual', 'deleted', 'authorisation', 'written_off', 'passback', 'travel'));
