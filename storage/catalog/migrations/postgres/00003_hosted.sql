-- +goose Up
ALTER TABLE links ADD COLUMN linked_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE tags ADD COLUMN pulled_at BIGINT NOT NULL DEFAULT 0;

CREATE TABLE unlinks (
    repository TEXT COLLATE "C" NOT NULL,
    tag        TEXT COLLATE "C" NOT NULL,
    digest     BYTEA NOT NULL,
    PRIMARY KEY (repository, tag, digest)
);
