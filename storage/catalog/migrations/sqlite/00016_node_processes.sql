-- +goose Up

-- Which process it is that goes by the name of a node, so that two of one name notice each other.
ALTER TABLE nodes ADD COLUMN process TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE nodes DROP COLUMN process;
