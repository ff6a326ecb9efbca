-- +goose Up
ALTER TABLE projects ADD COLUMN schedule TEXT COLLATE "C" NOT NULL DEFAULT '';
