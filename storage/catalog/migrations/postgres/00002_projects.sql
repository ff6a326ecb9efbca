-- +goose Up
CREATE TABLE projects (
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        TEXT COLLATE "C" NOT NULL UNIQUE,
    configured  BIGINT NOT NULL,
    public      BIGINT NOT NULL,
    quota       BIGINT NOT NULL,
    immutable   TEXT COLLATE "C" NOT NULL,
    keep_newest BIGINT NOT NULL,
    keep_pulled BIGINT NOT NULL,
    created_at  BIGINT NOT NULL
);

CREATE TABLE changes (
    generation BIGINT NOT NULL
) WITH (fillfactor = 20);
INSERT INTO changes (generation) VALUES (1);
