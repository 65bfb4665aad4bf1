-- Hosts, certificates and join tokens. A host is known by the SHA-256 of its public key, a token by that of its secret.
CREATE TABLE host (
    id INTEGER PRIMARY KEY,
    key_hash BLOB NOT NULL UNIQUE,
    instance TEXT NOT NULL UNIQUE,
    hostname TEXT NOT NULL,
    -- From the join token, as a JSON object.
    token_labels TEXT NOT NULL,
    -- From the agent's configuration, as a JSON object.
    agent_labels TEXT NOT NULL,
    -- Forgotten so long after it was last seen, if it is ephemeral.
    ephemeral_s INTEGER,
    certificate_expires_ms INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    revoked INTEGER NOT NULL DEFAULT 0,
    agent_version TEXT NOT NULL DEFAULT '',
    boot_id BLOB,
    run BLOB,
    last_seen_ms INTEGER NOT NULL,
    -- How its latest session ended: a reason of `Goodbye`, or nothing.
    goodbye INTEGER
);

CREATE TABLE join_token (
    hash BLOB NOT NULL PRIMARY KEY,
    uses INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    labels TEXT NOT NULL,
    ephemeral_s INTEGER,
    revoked INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- A use belongs to the key of the signing request, so repeating it is free.
CREATE TABLE join_token_use (
    token BLOB NOT NULL REFERENCES join_token (hash),
    key_hash BLOB NOT NULL,
    PRIMARY KEY (token, key_hash)
) WITHOUT ROWID;
