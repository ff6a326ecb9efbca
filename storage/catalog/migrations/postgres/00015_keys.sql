-- +goose Up
CREATE TABLE keys (
    name       TEXT COLLATE "C" PRIMARY KEY,
    sealed     TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE sessions (
    hash    TEXT COLLATE "C" PRIMARY KEY,
    user_id BIGINT NOT NULL,
    proof   TEXT COLLATE "C" NOT NULL,
    until   BIGINT NOT NULL
);
CREATE INDEX sessions_user ON sessions (user_id, until);
CREATE INDEX sessions_until ON sessions (until);
