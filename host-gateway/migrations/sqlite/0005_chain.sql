-- What the entry after `acked` must say of it: half of its tag. NULL where that entry is not here.
ALTER TABLE watermarks ADD COLUMN tail BLOB CHECK (length(tail) = 8);
