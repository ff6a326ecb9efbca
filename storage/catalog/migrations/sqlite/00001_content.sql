-- +goose Up

-- One row for each repository that has a tag or a link. name is the full name,
-- "docker.io/library/busybox"; project is its first segment.
CREATE TABLE repositories (
    id      INTEGER PRIMARY KEY,
    name    TEXT NOT NULL UNIQUE,
    project TEXT NOT NULL
) STRICT;
CREATE INDEX repositories_by_project ON repositories (project, name);

-- The sets of projects that hold content, each of them once: "docker.io/quay.io" is held by
-- these two and no other. There are as many as there are different ways of sharing, a handful,
-- so that what is evictable for some projects is a few ranges of one index, and usage is the
-- sum of a few rows. bytes and count are those of the stored content of this set.
CREATE TABLE holders (
    id       INTEGER PRIMARY KEY,
    projects TEXT    NOT NULL UNIQUE,
    bytes    INTEGER NOT NULL DEFAULT 0,
    count    INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO holders (id, projects) VALUES (0, '');

-- One row for each digest that is stored, linked or referred to. media_type is that of a
-- stored manifest whose references are in refs, and NULL for anything else.
CREATE TABLE content (
    id         INTEGER PRIMARY KEY,
    digest     BLOB    NOT NULL UNIQUE,
    stored     INTEGER NOT NULL,
    size       INTEGER NOT NULL,
    media_type TEXT,
    used_at    INTEGER NOT NULL,
    holders_id INTEGER NOT NULL REFERENCES holders (id)
) STRICT;
CREATE INDEX content_coldest ON content (holders_id, used_at) WHERE stored = 1;

-- What a manifest is made of: config, layers and the manifests of an index, with what the
-- manifest says of them. media_type is that of a manifest and NULL for a blob.
CREATE TABLE refs (
    manifest_id INTEGER NOT NULL REFERENCES content (id),
    child_id    INTEGER NOT NULL REFERENCES content (id),
    size        INTEGER NOT NULL,
    media_type  TEXT,
    PRIMARY KEY (manifest_id, child_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX refs_by_child ON refs (child_id, manifest_id);

-- What a manifest is about. This gives no right to read the subject, so it is not in refs.
CREATE TABLE subjects (
    manifest_id   INTEGER PRIMARY KEY REFERENCES content (id),
    subject_id    INTEGER NOT NULL REFERENCES content (id),
    artifact_type TEXT NOT NULL,
    annotations   TEXT
) STRICT;
CREATE INDEX subjects_by_subject ON subjects (subject_id);

-- What a repository has. direct is 1 when it was linked itself; through is the number of
-- directly linked manifests of the repository that are made of it. Never both zero.
CREATE TABLE links (
    content_id    INTEGER NOT NULL REFERENCES content (id),
    repository_id INTEGER NOT NULL REFERENCES repositories (id),
    direct        INTEGER NOT NULL,
    through       INTEGER NOT NULL,
    PRIMARY KEY (content_id, repository_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX links_by_repository ON links (repository_id);

-- digest is what upstream named, whether it is in content or not; NULL when it never named one.
CREATE TABLE tags (
    repository_id INTEGER NOT NULL REFERENCES repositories (id),
    tag           TEXT    NOT NULL,
    digest        BLOB,
    media_type    TEXT    NOT NULL,
    size          INTEGER NOT NULL,
    checked_at    INTEGER NOT NULL,
    changed_at    INTEGER NOT NULL,
    gone          INTEGER NOT NULL,
    PRIMARY KEY (repository_id, tag)
) STRICT, WITHOUT ROWID;
CREATE INDEX tags_by_digest ON tags (digest) WHERE digest IS NOT NULL;

-- Content that is forgotten and whose files are being removed. holdings are the links that the
-- layout has of it, in JSON. A crash leaves a row, and the removal is finished later.
CREATE TABLE removals (
    digest   BLOB PRIMARY KEY,
    holdings TEXT NOT NULL
) STRICT, WITHOUT ROWID;
