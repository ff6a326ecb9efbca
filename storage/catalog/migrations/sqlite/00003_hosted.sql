-- +goose Up

-- When a direct link was made, or what it leads to was last of use: a manifest made of it went, or
-- a client that pushes was told that it is here. Unreferenced content goes some time after that.
ALTER TABLE links ADD COLUMN linked_at INTEGER NOT NULL DEFAULT 0;

-- When a tag was last pulled, in steps of minutes. Proxy projects leave it at 0.
ALTER TABLE tags ADD COLUMN pulled_at INTEGER NOT NULL DEFAULT 0;

-- Links of the layout that the catalog has forgotten and that are being removed: of a digest in a
-- repository, or of a tag that pointed to it. tag is empty for the former. A crash leaves a row,
-- and the removal is finished later.
CREATE TABLE unlinks (
    repository TEXT NOT NULL,
    tag        TEXT NOT NULL,
    digest     BLOB NOT NULL,
    PRIMARY KEY (repository, tag, digest)
) STRICT, WITHOUT ROWID;
