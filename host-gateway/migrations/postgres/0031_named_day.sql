-- The service day that a line of a T+1 file names, which may be another than the file's: of two lines that differ in it alone,
-- each has a break of its own. NULL: none is named, or an older version found it.
ALTER TABLE breaks ADD COLUMN named_day BIGINT;
