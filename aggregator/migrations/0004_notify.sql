-- Groups of alerts that are told together, and what each receiver was told last.
CREATE TABLE alert_group (
    key TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL
) WITHOUT ROWID;

-- What is yet to be delivered: at most one notification for each group and receiver.
CREATE TABLE outbox (
    group_key TEXT NOT NULL,
    receiver TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (group_key, receiver)
) WITHOUT ROWID;

-- Every decision, sent or not, and what became of it.
CREATE TABLE notification (
    id TEXT NOT NULL PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    group_key TEXT NOT NULL,
    receiver TEXT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    error TEXT,
    alerts TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX notification_by_time ON notification (at_ms);
