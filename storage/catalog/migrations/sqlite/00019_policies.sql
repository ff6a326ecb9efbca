-- +goose Up

-- What is known of the signatures of a manifest in a repository, by its full name, and of what is named
-- by one that is good. basis is the ID of the key, or another word of whoever verifies; "" that nothing
-- was found that would do. root is the manifest that is signed, NULL for the digest itself. whole is 1
-- when all that a manifest names has its rows too.
CREATE TABLE verdicts (
    repository TEXT    NOT NULL,
    digest     BLOB    NOT NULL,
    basis      TEXT    NOT NULL,
    root       BLOB,
    whole      INTEGER NOT NULL,
    actor      TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    at         INTEGER NOT NULL,
    PRIMARY KEY (repository, digest, basis)
) STRICT, WITHOUT ROWID;
CREATE INDEX verdicts_by_age ON verdicts (at);

-- To what upstream has moved a tag, of a repository by its full name, that does not follow it yet here.
CREATE TABLE holds (
    repository TEXT    NOT NULL,
    tag        TEXT    NOT NULL,
    digest     BLOB    NOT NULL,
    media_type TEXT    NOT NULL,
    size       INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL,
    released   INTEGER NOT NULL,
    PRIMARY KEY (repository, tag)
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE holds;
DROP TABLE verdicts;
