-- +goose Up
ALTER TABLE projects ADD COLUMN keep_rules TEXT COLLATE "C" NOT NULL DEFAULT '[]';
