-- +goose Up

-- What the retention of a project keeps beside its newest tags and those lately pulled: rules for some
-- of its repositories and tags, in JSON.
ALTER TABLE projects ADD COLUMN keep_rules TEXT NOT NULL DEFAULT '[]';

-- +goose Down
ALTER TABLE projects DROP COLUMN keep_rules;
