-- +goose Up

-- Whoever may log in. password is argon2id in PHC form, '' for none; secret is the SHA-256 of
-- what a user of an OIDC provider gives to docker login. issuer and subject say who it is at the
-- provider; member_of are the names of its groups there at its last login by it, in JSON, and
-- identified_at is when that was.
--
-- The numbers of users and robots are never used again (AUTOINCREMENT): a token that was made
-- for one that went must not be one of whoever comes next by the same name.
CREATE TABLE users (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    name          TEXT    NOT NULL UNIQUE,
    email         TEXT    NOT NULL,
    admin         INTEGER NOT NULL,
    disabled      INTEGER NOT NULL,
    password      TEXT    NOT NULL,
    secret        BLOB,
    issuer        TEXT,
    subject       TEXT,
    member_of     TEXT    NOT NULL,
    created_at    INTEGER NOT NULL,
    last_login    INTEGER NOT NULL,
    identified_at INTEGER NOT NULL,
    UNIQUE (issuer, subject)
) STRICT;

-- Nobody shall pass for "alice" as "Alice".
CREATE UNIQUE INDEX users_by_folded_name ON users (lower(name));

-- The roles that users, and groups of the OIDC provider, have in projects. A project may be one
-- that only the configuration knows.
CREATE TABLE members (
    project   TEXT    NOT NULL,
    is_group  INTEGER NOT NULL,
    name      TEXT    NOT NULL,
    role      TEXT    NOT NULL,
    PRIMARY KEY (project, is_group, name)
) STRICT;

-- project is '' for a robot of the system. secret is a SHA-256: what is hashed are 256 random
-- bits, which nobody guesses however fast the hash is. expires_at is 0 for never.
CREATE TABLE robots (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    project     TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    description TEXT    NOT NULL,
    secret      BLOB    NOT NULL,
    disabled    INTEGER NOT NULL,
    permissions TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    UNIQUE (project, name)
) STRICT;

-- What the house needs to log in elsewhere, sealed with a key that is not in here.
CREATE TABLE secrets (
    name       TEXT    PRIMARY KEY,
    sealed     TEXT    NOT NULL,
    changed_at INTEGER NOT NULL
) STRICT;

-- What was done and refused. It only grows.
CREATE TABLE audit (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    at        INTEGER NOT NULL,
    actor     TEXT    NOT NULL,
    action    TEXT    NOT NULL,
    kind      TEXT    NOT NULL,
    resource  TEXT    NOT NULL,
    reference TEXT    NOT NULL,
    remote    TEXT    NOT NULL,
    outcome   TEXT    NOT NULL,
    detail    TEXT    NOT NULL
) STRICT;
CREATE INDEX audit_by_time ON audit (at);

-- +goose StatementBegin
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_is_not_shortened BEFORE DELETE ON audit BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
-- +goose StatementEnd
