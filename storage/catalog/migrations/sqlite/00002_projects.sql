-- +goose Up

-- Hosted projects, whose content is never evicted; proxy projects are in the configuration only.
-- configured is 1 as long as the configuration has it, whose word on the rest then counts.
-- quota is in bytes, 0 for none; immutable are globs in JSON; keep_pulled is in milliseconds.
CREATE TABLE projects (
    id          INTEGER PRIMARY KEY,
    name        TEXT    NOT NULL UNIQUE,
    configured  INTEGER NOT NULL,
    public      INTEGER NOT NULL,
    quota       INTEGER NOT NULL,
    immutable   TEXT    NOT NULL,
    keep_newest INTEGER NOT NULL,
    keep_pulled INTEGER NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT;

-- One row. generation grows with every change of projects, users and rights, so that whoever
-- keeps them in memory knows when to read them again.
CREATE TABLE changes (
    generation INTEGER NOT NULL
) STRICT;
INSERT INTO changes (generation) VALUES (1);
