-- +goose Up

-- Who pulled a manifest last out of a repository that has it directly, and when, as far as somebody
-- told: it is written now and then. pulled_by is '' for anybody. A row goes with the direct link.
CREATE TABLE last_pulls (
    content_id    INTEGER NOT NULL REFERENCES content (id),
    repository_id INTEGER NOT NULL REFERENCES repositories (id),
    pulled_at     INTEGER NOT NULL,
    pulled_by     TEXT    NOT NULL,
    PRIMARY KEY (content_id, repository_id)
) STRICT, WITHOUT ROWID;
-- Without it, each repository that goes would be looked for in all of the table.
CREATE INDEX last_pulls_by_repository ON last_pulls (repository_id);

-- +goose Down
DROP TABLE last_pulls;
