-- +goose Up
CREATE TABLE users (
    id            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name          TEXT COLLATE "C" NOT NULL UNIQUE,
    email         TEXT COLLATE "C" NOT NULL,
    admin         BIGINT NOT NULL,
    disabled      BIGINT NOT NULL,
    password      TEXT COLLATE "C" NOT NULL,
    secret        BYTEA,
    issuer        TEXT COLLATE "C",
    subject       TEXT COLLATE "C",
    member_of     TEXT COLLATE "C" NOT NULL,
    created_at    BIGINT NOT NULL,
    last_login    BIGINT NOT NULL,
    identified_at BIGINT NOT NULL,
    UNIQUE (issuer, subject)
);
CREATE UNIQUE INDEX users_by_folded_name ON users (lower(name));

CREATE TABLE members (
    project   TEXT COLLATE "C" NOT NULL,
    is_group  BIGINT NOT NULL,
    name      TEXT COLLATE "C" NOT NULL,
    role      TEXT COLLATE "C" NOT NULL
);

CREATE TABLE robots (
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project     TEXT COLLATE "C" NOT NULL,
    name        TEXT COLLATE "C" NOT NULL,
    description TEXT COLLATE "C" NOT NULL,
    secret      BYTEA  NOT NULL,
    disabled    BIGINT NOT NULL,
    permissions TEXT COLLATE "C" NOT NULL,
    created_at  BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL,
    UNIQUE (project, name)
);

CREATE TABLE secrets (
    name       TEXT COLLATE "C" PRIMARY KEY,
    sealed     TEXT COLLATE "C" NOT NULL,
    changed_at BIGINT NOT NULL
);

CREATE TABLE audit (
    id        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at        BIGINT NOT NULL,
    actor     TEXT COLLATE "C" NOT NULL,
    action    TEXT COLLATE "C" NOT NULL,
    kind      TEXT COLLATE "C" NOT NULL,
    resource  TEXT COLLATE "C" NOT NULL,
    reference TEXT COLLATE "C" NOT NULL,
    remote    TEXT COLLATE "C" NOT NULL,
    outcome   TEXT COLLATE "C" NOT NULL,
    detail    TEXT COLLATE "C" NOT NULL
);

-- +goose StatementBegin
CREATE FUNCTION audit_only_grows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only';
END $$;
-- +goose StatementEnd
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit FOR EACH ROW EXECUTE FUNCTION audit_only_grows();
CREATE TRIGGER audit_is_not_emptied BEFORE TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_only_grows();
