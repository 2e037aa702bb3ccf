-- Whether a token was found to be somebody's when risk looked at it: then it is not looked for in the registry again, where
-- tokens lie in the order in which they were issued. Of a person who is erased it is taken back.
ALTER TABLE risk_states ADD COLUMN is_somebodys INTEGER NOT NULL DEFAULT 0 CHECK (is_somebodys IN (0, 1));
