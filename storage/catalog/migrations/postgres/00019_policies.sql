-- +goose Up
CREATE TABLE verdicts (
    repository TEXT COLLATE "C" NOT NULL,
    digest     BYTEA NOT NULL,
    basis      TEXT COLLATE "C" NOT NULL,
    root       BYTEA,
    whole      BIGINT NOT NULL,
    actor      TEXT COLLATE "C" NOT NULL,
    reason     TEXT COLLATE "C" NOT NULL,
    at         BIGINT NOT NULL,
    PRIMARY KEY (repository, digest, basis)
);
CREATE INDEX verdicts_by_age ON verdicts (at);

CREATE TABLE holds (
    repository TEXT COLLATE "C" NOT NULL,
    tag        TEXT COLLATE "C" NOT NULL,
    digest     BYTEA NOT NULL,
    media_type TEXT COLLATE "C" NOT NULL,
    size       BIGINT NOT NULL,
    seen_at    BIGINT NOT NULL,
    released   BIGINT NOT NULL,
    PRIMARY KEY (repository, tag)
);
