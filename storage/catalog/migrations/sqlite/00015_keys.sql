-- +goose Up

-- The keys that the nodes of a cluster have in common, sealed by what only nodes know. A node alone
-- has them in files.
CREATE TABLE keys (
    name       TEXT    PRIMARY KEY NOT NULL,
    sealed     TEXT    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Who is signed in by a browser, at whichever node of a cluster: by the hash of what the browser has,
-- and with the hash of what the user proved itself by. A node alone remembers that itself.
CREATE TABLE sessions (
    hash    TEXT    PRIMARY KEY NOT NULL,
    user_id INTEGER NOT NULL,
    proof   TEXT    NOT NULL,
    until   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_user ON sessions (user_id, until);
CREATE INDEX sessions_until ON sessions (until);

-- +goose Down
DROP TABLE sessions;
DROP TABLE keys;
