-- +goose Up

-- Registries elsewhere that proxy projects are caches of. password is sealed with a key that is not
-- in here, '' for none; ca is PEM. configured is 1 for one that the configuration declares, whose
-- word on the rest then counts. Numbers are never used again (AUTOINCREMENT), here and in projects:
-- who administers by program keeps them.
CREATE TABLE registries (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    name          TEXT    NOT NULL UNIQUE,
    kind          TEXT    NOT NULL,
    url           TEXT    NOT NULL,
    description   TEXT    NOT NULL,
    username      TEXT    NOT NULL,
    password      TEXT    NOT NULL,
    ca            TEXT    NOT NULL,
    insecure      INTEGER NOT NULL,
    allow_private INTEGER NOT NULL,
    configured    INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL
) STRICT;

-- Projects of both kinds: registry_id is what a proxy is a cache of, and NULL for what people push
-- to. policy says in JSON how a proxy caches. metadata are the words of whoever administers by
-- Harbor's API that mean nothing here and are given back as they were, in JSON.
CREATE TABLE every_project (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    name        TEXT    NOT NULL UNIQUE,
    configured  INTEGER NOT NULL,
    registry_id INTEGER REFERENCES registries (id),
    public      INTEGER NOT NULL,
    quota       INTEGER NOT NULL,
    immutable   TEXT    NOT NULL,
    keep_newest INTEGER NOT NULL,
    keep_pulled INTEGER NOT NULL,
    policy      TEXT    NOT NULL,
    metadata    TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL
) STRICT;
INSERT INTO every_project (id, name, configured, public, quota, immutable, keep_newest, keep_pulled, policy, metadata, created_at, updated_at)
    SELECT id, name, configured, public, quota, immutable, keep_newest, keep_pulled, '{}', '{}', created_at, created_at FROM projects;
DROP TABLE projects;
ALTER TABLE every_project RENAME TO projects;
CREATE INDEX projects_by_registry ON projects (registry_id) WHERE registry_id IS NOT NULL;

-- What is set for the whole house by whoever administers it, in JSON, by name: when content is
-- collected, for one.
CREATE TABLE settings (
    name       TEXT    PRIMARY KEY,
    value      TEXT    NOT NULL,
    changed_at INTEGER NOT NULL
) STRICT;
