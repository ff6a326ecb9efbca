-- +goose Up
CREATE TABLE leases (
    name       TEXT COLLATE "C" PRIMARY KEY,
    holder     TEXT COLLATE "C" NOT NULL,
    node       TEXT COLLATE "C" NOT NULL,
    renewed_at BIGINT NOT NULL,
    stopping   BIGINT NOT NULL
);

CREATE TABLE jobs (
    id       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    process  TEXT COLLATE "C" NOT NULL,
    node     TEXT COLLATE "C" NOT NULL,
    task     TEXT COLLATE "C" NOT NULL,
    body     TEXT COLLATE "C" NOT NULL,
    seen_at  BIGINT NOT NULL,
    ended    BIGINT NOT NULL,
    stopping BIGINT NOT NULL
);
