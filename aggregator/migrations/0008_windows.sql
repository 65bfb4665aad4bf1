-- Windows of a host that will not come: how many, and which runs of its agent have to be known to count on.
CREATE TABLE host_windows (
    host INTEGER PRIMARY KEY,
    missing INTEGER NOT NULL DEFAULT 0,
    settled_ms INTEGER NOT NULL DEFAULT 0,
    spans BLOB NOT NULL DEFAULT x'00'
);
