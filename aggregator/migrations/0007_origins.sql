-- Who writes series with whole label sets: the aggregator itself is origin 0, each write token one of its own. Origins
-- share their numbers with hosts, whose numbers end long before.
CREATE TABLE origin (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    -- SHA-256 of its token's secret.
    hash BLOB NOT NULL UNIQUE,
    -- Added to each of its series, as a JSON object.
    labels TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    revoked INTEGER NOT NULL DEFAULT 0
);
INSERT INTO sqlite_sequence (name, seq) VALUES ('origin', 2147483647);

-- What own_series and own_log were for origin 0 alone. `form` says how a payload is written: 1 is values at one stamp,
-- 2 is samples of one hour, whose last stamp is that of the row.
CREATE TABLE origin_series (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    origin INTEGER NOT NULL,
    labels BLOB NOT NULL,
    UNIQUE (origin, labels)
);
INSERT INTO origin_series (id, origin, labels) SELECT id, 0, labels FROM own_series;
DELETE FROM sqlite_sequence WHERE name = 'origin_series';
INSERT INTO sqlite_sequence (name, seq)
    SELECT 'origin_series', coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'own_series'), 0);
DROP TABLE own_series;

ALTER TABLE own_log RENAME TO origin_log;
ALTER TABLE origin_log ADD COLUMN origin INTEGER NOT NULL DEFAULT 0;
ALTER TABLE origin_log ADD COLUMN form INTEGER NOT NULL DEFAULT 1;
DROP INDEX own_log_by_stamp;
CREATE INDEX origin_log_by_stamp ON origin_log (stamp_ms);
