-- After when a tier has everything, where files of it went for want of room: what comes late for before goes too.
CREATE TABLE tier (
    number INTEGER PRIMARY KEY,
    begins_ms INTEGER NOT NULL
);
