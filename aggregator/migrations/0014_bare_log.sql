-- A commit of a few batches is to change few pages: the logs have no index, and no page that counts their ids. Which rows
-- there are of whom is in memory; ids that were given are never given again, because the next one is behind all rows and
-- behind all that `sealed` and `host_labels` refer to. What of a spool follows from its rows is written when they go.

CREATE TABLE log_bare (
    id INTEGER PRIMARY KEY,
    host INTEGER NOT NULL,
    run BLOB NOT NULL,
    spool BLOB NOT NULL,
    seq INTEGER NOT NULL,
    schema_version INTEGER NOT NULL,
    codec INTEGER NOT NULL,
    keyframe INTEGER NOT NULL,
    stamp_ms INTEGER NOT NULL,
    payload BLOB NOT NULL,
    checksum INTEGER NOT NULL
);
INSERT INTO log_bare SELECT id, host, run, spool, seq, schema_version, codec, keyframe, stamp_ms, payload, checksum FROM log
    ORDER BY id;
DROP TABLE log;
ALTER TABLE log_bare RENAME TO log;

CREATE TABLE origin_log_bare (
    id INTEGER PRIMARY KEY,
    origin INTEGER NOT NULL,
    form INTEGER NOT NULL,
    stamp_ms INTEGER NOT NULL,
    payload BLOB NOT NULL,
    checksum INTEGER NOT NULL
);
INSERT INTO origin_log_bare SELECT id, origin, form, stamp_ms, payload, checksum FROM origin_log ORDER BY id;
DROP TABLE origin_log;
ALTER TABLE origin_log_bare RENAME TO origin_log;
