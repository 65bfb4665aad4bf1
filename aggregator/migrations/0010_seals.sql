-- Each attempt to seal has a number of its own, also one that writes no file: the series of one that came to nothing are
-- in no file, and a later one must not pass for it.
ALTER TABLE series RENAME COLUMN block TO seal;
ALTER TABLE sealed RENAME COLUMN block TO seal;
