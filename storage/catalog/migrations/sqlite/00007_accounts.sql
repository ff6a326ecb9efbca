-- +goose Up

-- A member has a number, as the API names it by, which is never that of another again: a change of
-- one that went must not be a change of who came after it.
CREATE TABLE numbered_members (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    project   TEXT    NOT NULL,
    is_group  INTEGER NOT NULL,
    name      TEXT    NOT NULL,
    role      TEXT    NOT NULL,
    UNIQUE (project, is_group, name)
) STRICT;
INSERT INTO numbered_members (project, is_group, name, role)
    SELECT project, is_group, name, role FROM members ORDER BY project, is_group, name;
DROP TABLE members;
ALTER TABLE numbered_members RENAME TO members;

-- What a robot logs in with, if somebody chose it: argon2id in PHC form, as with users. The robot
-- has no secret then, and that is empty.
ALTER TABLE robots ADD COLUMN password TEXT NOT NULL DEFAULT '';
