-- The log of batches, and what is needed to read and continue it.

-- One row a batch, in order of arrival: the head's write-ahead log. Ids are never used again: host_labels refers to them.
CREATE TABLE log (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
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
CREATE UNIQUE INDEX log_by_spool ON log (host, spool, seq);
CREATE INDEX log_by_stamp ON log (host, stamp_ms);
CREATE INDEX log_by_keyframe ON log (host, spool, stamp_ms, seq) WHERE keyframe = 1;

-- Each version of each run's schema.
CREATE TABLE schema_change (
    host INTEGER NOT NULL,
    run BLOB NOT NULL,
    version INTEGER NOT NULL,
    change BLOB NOT NULL,
    PRIMARY KEY (host, run, version)
);

-- Which batch each spool continues with. Spools that no agent has named for a long time go.
CREATE TABLE spool (
    host INTEGER NOT NULL,
    spool BLOB NOT NULL,
    next INTEGER NOT NULL,
    named_ms INTEGER NOT NULL,
    PRIMARY KEY (host, spool)
) WITHOUT ROWID;

-- The labels that all series of a host have, from the row behind `after_log` on.
CREATE TABLE host_labels (
    id INTEGER PRIMARY KEY,
    host INTEGER NOT NULL,
    after_log INTEGER NOT NULL,
    labels BLOB NOT NULL
);

-- Samples of the aggregator itself, one row a commit; the payload names series by their id.
CREATE TABLE own_series (
    id INTEGER PRIMARY KEY,
    labels BLOB NOT NULL UNIQUE
);
CREATE TABLE own_log (
    id INTEGER PRIMARY KEY,
    stamp_ms INTEGER NOT NULL,
    payload BLOB NOT NULL,
    checksum INTEGER NOT NULL
);
CREATE INDEX own_log_by_stamp ON own_log (stamp_ms);

-- What the aggregator noticed about a host. What agents noticed stands in their batches.
CREATE TABLE event (
    id INTEGER PRIMARY KEY,
    host INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    event BLOB NOT NULL
);
CREATE INDEX event_by_time ON event (at_ms);
