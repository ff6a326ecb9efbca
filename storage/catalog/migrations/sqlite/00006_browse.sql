-- +goose Up

-- What people are shown of a repository, so that a page of them reads a page of rows. manifests
-- is the number of manifests that it has directly; listed is 1 as long as it has content or a tag
-- that is not gone. updated_at is its newest change of a manifest or tag, pulled_at its last pull
-- and pulls their number, as far as they were counted: both are written now and then.
ALTER TABLE repositories ADD COLUMN description TEXT NOT NULL DEFAULT '';
ALTER TABLE repositories ADD COLUMN created_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN updated_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN pulled_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN pulls INTEGER NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN manifests INTEGER NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN listed INTEGER NOT NULL DEFAULT 0;

-- The sums of the above for each project.
CREATE TABLE project_counts (
    project      TEXT    PRIMARY KEY,
    repositories INTEGER NOT NULL,
    manifests    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- 1 for a direct link to a stored manifest: among ten times as many links to blobs, the artifacts
-- of a repository are then a range of one index in the order of their pushes.
ALTER TABLE links ADD COLUMN manifest INTEGER NOT NULL DEFAULT 0;

-- Links from before their time was kept get that of the last use, which is not before it.
UPDATE links SET manifest = 1,
    linked_at = CASE WHEN linked_at > 0 THEN linked_at ELSE (SELECT c.used_at FROM content c WHERE c.id = content_id) END
    WHERE direct = 1 AND content_id IN (SELECT id FROM content WHERE media_type IS NOT NULL);
CREATE INDEX links_manifests ON links (repository_id, linked_at, content_id) WHERE manifest = 1;

UPDATE repositories SET
    manifests = (SELECT COUNT(*) FROM links l WHERE l.repository_id = repositories.id AND l.manifest = 1),
    created_at = COALESCE((SELECT MIN(l.linked_at) FROM links l WHERE l.repository_id = repositories.id AND l.manifest = 1), 0),
    updated_at = (SELECT MAX(at) FROM (
        SELECT COALESCE(MAX(l.linked_at), 0) AS at FROM links l WHERE l.repository_id = repositories.id AND l.manifest = 1
        UNION ALL SELECT COALESCE(MAX(t.changed_at), 0) FROM tags t WHERE t.repository_id = repositories.id)),
    pulled_at = COALESCE((SELECT MAX(t.pulled_at) FROM tags t WHERE t.repository_id = repositories.id), 0),
    listed = CASE WHEN EXISTS (SELECT 1 FROM links l WHERE l.repository_id = repositories.id)
        OR EXISTS (SELECT 1 FROM tags t WHERE t.repository_id = repositories.id AND t.gone = 0) THEN 1 ELSE 0 END;
INSERT INTO project_counts (project, repositories, manifests)
    SELECT project, SUM(listed), SUM(manifests) FROM repositories GROUP BY project;

-- Each has all that decides whether a repository is on a page, so that what is passed over on the
-- way to it is read in the index only.
CREATE INDEX repositories_by_name ON repositories (name, project) WHERE listed = 1;
CREATE INDEX repositories_by_update ON repositories (updated_at, name, project) WHERE listed = 1;
CREATE INDEX repositories_by_pull ON repositories (pulled_at, name, project) WHERE listed = 1;

-- Pages of the audit log: all of it, by who did it and by what it was done to. The rest is for
-- what is passed over and counted, as above.
DROP INDEX audit_by_time;
CREATE INDEX audit_by_time ON audit (at, id, action, kind, outcome);
CREATE INDEX audit_by_actor ON audit (actor, at, id, action, kind, outcome);
CREATE INDEX audit_by_resource ON audit (resource, at, id, action, kind, outcome);

-- The audit log gets shorter only as long as this says up to when, which PruneAudit says in a
-- transaction that takes it back. No other statement removes a record, and none changes one.
CREATE TABLE audit_pruning (
    before INTEGER NOT NULL
) STRICT;
INSERT INTO audit_pruning (before) VALUES (0);
DROP TRIGGER audit_is_not_shortened;
-- +goose StatementBegin
CREATE TRIGGER audit_is_not_shortened BEFORE DELETE ON audit
WHEN NOT EXISTS (SELECT 1 FROM audit_pruning WHERE OLD.at < before) BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
-- +goose StatementEnd
