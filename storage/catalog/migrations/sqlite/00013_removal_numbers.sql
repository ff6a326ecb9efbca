-- +goose Up

-- Of several nodes that share a catalog, those that store content tell by its number a removal that
-- they know from one that they do not. began_at is when whoever removes it now said so, and ended_at
-- when that had come to its end, both by the clock of the database; 0: it has not. A catalog in a file
-- has one node, and all of them are 0: rows of what has ended are not kept.
ALTER TABLE removals ADD COLUMN number INTEGER NOT NULL DEFAULT 0;
ALTER TABLE removals ADD COLUMN began_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE removals ADD COLUMN ended_at INTEGER NOT NULL DEFAULT 0;

-- The same for links. Their number is that of the last end, and that of a tag the number of the last
-- time that it was forgotten.
ALTER TABLE unlinks ADD COLUMN number INTEGER NOT NULL DEFAULT 0;
ALTER TABLE unlinks ADD COLUMN ended_at INTEGER NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE removals DROP COLUMN number;
ALTER TABLE removals DROP COLUMN began_at;
ALTER TABLE removals DROP COLUMN ended_at;
ALTER TABLE unlinks DROP COLUMN number;
ALTER TABLE unlinks DROP COLUMN ended_at;
