-- Whether a token was found to be somebody's when risk looked at it: then it is not looked for in the registry again, where
-- tokens lie in the order in which they were issued. Of a person who is erased it is taken back.
ALTER TABLE risk_states ADD COLUMN is_somebodys SMALLINT NOT NULL DEFAULT 0 CHECK (is_somebodys IN (0, 1));

-- Every token that taps is written again with each pass, and all of a page's at once: with room for it there, no index is
-- touched.
ALTER TABLE risk_states SET (fillfactor = 50);
