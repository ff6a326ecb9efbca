-- +goose Up

-- The nodes that share a catalog, and when each last said that it is alive, by the clock of the
-- database. A catalog in a file has one node, and no rows here.
CREATE TABLE nodes (
    id      TEXT    PRIMARY KEY NOT NULL,
    address TEXT    NOT NULL,
    seen_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE nodes;
