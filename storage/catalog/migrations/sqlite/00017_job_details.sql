-- +goose Up
-- As in PostgreSQL, where several nodes tell each other of jobs.
ALTER TABLE jobs ADD COLUMN detail TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE jobs DROP COLUMN detail;
