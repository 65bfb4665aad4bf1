-- Series that ended are found on disk; only those that go on are read at the start.

-- The label sets that have a label, by a checksum of its name and value, in the part that they play: 0 columns, 1 entities,
-- 2 hosts. Under the checksum -1 stand all those of columns.
CREATE TABLE label_pair (
    part INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    label_set INTEGER NOT NULL,
    PRIMARY KEY (part, checksum, label_set)
) WITHOUT ROWID;

-- The label sets that hosts had while one of their series began.
CREATE TABLE host_set (
    label_set INTEGER NOT NULL,
    host INTEGER NOT NULL,
    PRIMARY KEY (label_set, host)
) WITHOUT ROWID;

CREATE INDEX series_living ON series (host, number) WHERE last_ms IS NULL;
CREATE INDEX series_by_entity ON series (entity_set, host);
CREATE INDEX series_by_column ON series (column_set, host, last_ms);
DROP INDEX series_by_end;
CREATE INDEX series_by_end ON series (host, last_ms) WHERE last_ms IS NOT NULL;
