-- +goose Up

-- What one process of all that share the catalog may do at a time, who does it, and when that one last
-- said so, by the clock of the database. A catalog in a file has one process, and no rows here.
CREATE TABLE leases (
    name       TEXT    PRIMARY KEY NOT NULL,
    holder     TEXT    NOT NULL,
    node       TEXT    NOT NULL,
    renewed_at INTEGER NOT NULL,
    stopping   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Work that a process does because somebody has asked for it there, for the others to show and to
-- stop. What it is stands in body, which whoever keeps it understands. A catalog in a file has no rows
-- here either.
CREATE TABLE jobs (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    process  TEXT    NOT NULL,
    node     TEXT    NOT NULL,
    task     TEXT    NOT NULL,
    body     TEXT    NOT NULL,
    seen_at  INTEGER NOT NULL,
    ended    INTEGER NOT NULL,
    stopping INTEGER NOT NULL
) STRICT;

-- +goose Down
DROP TABLE jobs;
DROP TABLE leases;
