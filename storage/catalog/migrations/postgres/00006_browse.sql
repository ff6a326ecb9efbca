-- +goose Up
ALTER TABLE repositories ADD COLUMN description TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE repositories ADD COLUMN created_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN updated_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN pulled_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN pulls BIGINT NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN manifests BIGINT NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN listed BIGINT NOT NULL DEFAULT 0;

CREATE TABLE project_counts (
    project      TEXT COLLATE "C" PRIMARY KEY,
    repositories BIGINT NOT NULL,
    manifests    BIGINT NOT NULL
) WITH (fillfactor = 20);

ALTER TABLE links ADD COLUMN manifest BIGINT NOT NULL DEFAULT 0;
CREATE INDEX links_manifests ON links (repository_id, linked_at, content_id) WHERE manifest = 1;

-- The last columns are for what is passed over: it is read in the index only. The number of a
-- repository is no part of an index here unless it is said.
CREATE INDEX repositories_by_name ON repositories (name, project, id) WHERE listed = 1;
CREATE INDEX repositories_by_update ON repositories (updated_at, name, project, id) WHERE listed = 1;
CREATE INDEX repositories_by_pull ON repositories (pulled_at, name, project, id) WHERE listed = 1;

CREATE INDEX audit_by_time ON audit (at, id, action, kind, outcome);
CREATE INDEX audit_by_actor ON audit (actor, at, id, action, kind, outcome);
CREATE INDEX audit_by_resource ON audit (resource, at, id, action, kind, outcome);

CREATE TABLE audit_pruning (
    before BIGINT NOT NULL
);
INSERT INTO audit_pruning (before) VALUES (0);
-- +goose StatementBegin
CREATE FUNCTION audit_is_pruned_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM audit_pruning WHERE OLD.at < before) THEN
        RAISE EXCEPTION 'the audit log is append-only';
    END IF;
    RETURN OLD;
END $$;
-- +goose StatementEnd
CREATE TRIGGER audit_is_not_shortened BEFORE DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_is_pruned_only();
