-- Who is written to: up to when everything was sent that had come by then, and what came later of the time before that.

CREATE TABLE forward (
    target TEXT PRIMARY KEY,
    through_ms INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE forward_late (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    target TEXT NOT NULL,
    host INTEGER NOT NULL,
    first_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL
);

CREATE INDEX forward_late_target ON forward_late (target, id);
