-- +goose Up

-- These tables mean what those of SQLite do, where more is said about them. The steps have the same
-- numbers. Nobody has a catalog in PostgreSQL of before there were eight of them, so the first eight
-- move no rows.
--
-- COLLATE "C" is the order of bytes, whatever that of the database is: pages go on behind a name, and
-- what is below one is the range from "name/" to "name0". lower() is that of ASCII then, as SQLite's.
-- Numbers are identities, whose sequence never goes back: one is given once.
CREATE TABLE repositories (
    id      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name    TEXT COLLATE "C" NOT NULL UNIQUE,
    project TEXT COLLATE "C" NOT NULL
);
CREATE INDEX repositories_by_project ON repositories (project, name);

-- Every write changes a counter of one of these few rows: there is room on their page for the versions
-- that somebody may still see.
CREATE TABLE holders (
    id       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    projects TEXT COLLATE "C" NOT NULL UNIQUE,
    bytes    BIGINT NOT NULL DEFAULT 0,
    count    BIGINT NOT NULL DEFAULT 0
) WITH (fillfactor = 20);
INSERT INTO holders (id, projects) OVERRIDING SYSTEM VALUE VALUES (0, '');

CREATE TABLE content (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest     BYTEA  NOT NULL UNIQUE,
    stored     BIGINT NOT NULL,
    size       BIGINT NOT NULL,
    media_type TEXT COLLATE "C",
    used_at    BIGINT NOT NULL,
    holders_id BIGINT NOT NULL REFERENCES holders (id)
);
CREATE INDEX content_coldest ON content (holders_id, used_at, id) WHERE stored = 1;

CREATE TABLE refs (
    manifest_id BIGINT NOT NULL REFERENCES content (id),
    child_id    BIGINT NOT NULL REFERENCES content (id),
    size        BIGINT NOT NULL,
    media_type  TEXT COLLATE "C",
    PRIMARY KEY (manifest_id, child_id)
);
CREATE INDEX refs_by_child ON refs (child_id, manifest_id);

CREATE TABLE subjects (
    manifest_id   BIGINT PRIMARY KEY REFERENCES content (id),
    subject_id    BIGINT NOT NULL REFERENCES content (id),
    artifact_type TEXT COLLATE "C" NOT NULL,
    annotations   TEXT COLLATE "C"
);
CREATE INDEX subjects_by_subject ON subjects (subject_id);

CREATE TABLE links (
    content_id    BIGINT NOT NULL REFERENCES content (id),
    repository_id BIGINT NOT NULL REFERENCES repositories (id),
    direct        BIGINT NOT NULL,
    through       BIGINT NOT NULL,
    PRIMARY KEY (content_id, repository_id)
);
CREATE INDEX links_by_repository ON links (repository_id, content_id);

CREATE TABLE tags (
    repository_id BIGINT NOT NULL REFERENCES repositories (id),
    tag           TEXT COLLATE "C" NOT NULL,
    digest        BYTEA,
    media_type    TEXT COLLATE "C" NOT NULL,
    size          BIGINT NOT NULL,
    checked_at    BIGINT NOT NULL,
    changed_at    BIGINT NOT NULL,
    gone          BIGINT NOT NULL,
    PRIMARY KEY (repository_id, tag)
);
CREATE INDEX tags_by_digest ON tags (digest, repository_id) WHERE digest IS NOT NULL;

CREATE TABLE removals (
    digest   BYTEA PRIMARY KEY,
    holdings TEXT COLLATE "C" NOT NULL
);
