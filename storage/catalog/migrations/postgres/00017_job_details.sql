-- +goose Up
-- What whoever lists jobs need not read: of a warm-up of a list, how each of its images is.
ALTER TABLE jobs ADD COLUMN detail TEXT COLLATE "C" NOT NULL DEFAULT '';
