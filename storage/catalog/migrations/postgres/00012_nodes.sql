-- +goose Up
CREATE TABLE nodes (
    id      TEXT COLLATE "C" PRIMARY KEY,
    address TEXT COLLATE "C" NOT NULL,
    seen_at BIGINT NOT NULL
);
