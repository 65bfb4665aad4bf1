-- Block files, and what is needed to read them.

-- Those that count: whatever else lies in their directories was never finished, or was replaced.
CREATE TABLE block (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tier INTEGER NOT NULL,
    after_ms INTEGER NOT NULL,
    through_ms INTEGER NOT NULL,
    bytes INTEGER NOT NULL
);

-- Label sets of columns, entities and hosts, each once.
CREATE TABLE label_set (
    id INTEGER PRIMARY KEY,
    labels BLOB NOT NULL UNIQUE
);

-- The series that block files name, by numbers that a host gives once. `last_ms` is nothing as long as a series goes on.
-- Each is here before a file names it: a host's series of which `block` is larger than its own is in no file.
CREATE TABLE series (
    host INTEGER NOT NULL,
    number INTEGER NOT NULL,
    shape BLOB NOT NULL,
    column_set INTEGER NOT NULL,
    entity_set INTEGER NOT NULL,
    host_set INTEGER NOT NULL,
    first_ms INTEGER NOT NULL,
    last_ms INTEGER,
    marked INTEGER NOT NULL,
    block INTEGER NOT NULL,
    PRIMARY KEY (host, number)
) WITHOUT ROWID;
CREATE INDEX series_by_end ON series (last_ms) WHERE last_ms IS NOT NULL;

-- Rows of a host's log (of an origin's, there) up to `through_row` with stamps up to `cut_ms` are in block files: they
-- stay only as long as a later row is decoded against them.
CREATE TABLE sealed (
    host INTEGER PRIMARY KEY,
    through_row INTEGER NOT NULL,
    cut_ms INTEGER NOT NULL,
    block INTEGER NOT NULL,
    next_number INTEGER NOT NULL,
    last_ms INTEGER
);

-- Ids of rows that are gone are never given again: `sealed` refers to them.
CREATE TABLE origin_log_numbered (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    origin INTEGER NOT NULL,
    form INTEGER NOT NULL,
    stamp_ms INTEGER NOT NULL,
    payload BLOB NOT NULL,
    checksum INTEGER NOT NULL
);
INSERT INTO origin_log_numbered SELECT id, origin, form, stamp_ms, payload, checksum FROM origin_log;
DROP TABLE origin_log;
ALTER TABLE origin_log_numbered RENAME TO origin_log;
CREATE INDEX origin_log_by_stamp ON origin_log (origin, stamp_ms);

CREATE TABLE event_numbered (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    host INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    event BLOB NOT NULL
);
INSERT INTO event_numbered SELECT id, host, at_ms, event FROM event;
DROP TABLE event;
ALTER TABLE event_numbered RENAME TO event;
CREATE INDEX event_by_time ON event (at_ms);
