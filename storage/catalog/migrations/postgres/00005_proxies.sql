-- +goose Up
CREATE TABLE registries (
    id            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name          TEXT COLLATE "C" NOT NULL UNIQUE,
    kind          TEXT COLLATE "C" NOT NULL,
    url           TEXT COLLATE "C" NOT NULL,
    description   TEXT COLLATE "C" NOT NULL,
    username      TEXT COLLATE "C" NOT NULL,
    password      TEXT COLLATE "C" NOT NULL,
    ca            TEXT COLLATE "C" NOT NULL,
    insecure      BIGINT NOT NULL,
    allow_private BIGINT NOT NULL,
    configured    BIGINT NOT NULL,
    created_at    BIGINT NOT NULL,
    updated_at    BIGINT NOT NULL
);

ALTER TABLE projects ADD COLUMN registry_id BIGINT REFERENCES registries (id);
ALTER TABLE projects ADD COLUMN policy TEXT COLLATE "C" NOT NULL;
ALTER TABLE projects ADD COLUMN metadata TEXT COLLATE "C" NOT NULL;
ALTER TABLE projects ADD COLUMN updated_at BIGINT NOT NULL;
CREATE INDEX projects_by_registry ON projects (registry_id) WHERE registry_id IS NOT NULL;

CREATE TABLE settings (
    name       TEXT COLLATE "C" PRIMARY KEY,
    value      TEXT COLLATE "C" NOT NULL,
    changed_at BIGINT NOT NULL
);
