-- +goose Up
CREATE TABLE last_pulls (
    content_id    BIGINT NOT NULL REFERENCES content (id),
    repository_id BIGINT NOT NULL REFERENCES repositories (id),
    pulled_at     BIGINT NOT NULL,
    pulled_by     TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (content_id, repository_id)
);
CREATE INDEX last_pulls_by_repository ON last_pulls (repository_id);
