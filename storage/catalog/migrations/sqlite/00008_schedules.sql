-- +goose Up

-- When the retention of a project runs, in cron's words; '' is with each collection, 'never' is only
-- when somebody asks for it.
ALTER TABLE projects ADD COLUMN schedule TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE projects DROP COLUMN schedule;
