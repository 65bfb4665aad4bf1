-- State of alerts. What a body says is the alert room's business.
CREATE TABLE alert (
    rule TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (rule, fingerprint)
) WITHOUT ROWID;

-- The last evaluation that was committed: the next one continues there.
CREATE TABLE evaluation (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    through_ms INTEGER NOT NULL
);
