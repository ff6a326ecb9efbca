package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"roadstead/registry"
)

// ProjectRepositories calls fn for each repository of a project, in byte order. An error of fn ends
// it and is returned. It reads a page at a time, as ProjectTags does.
func (db *DB) ProjectRepositories(ctx context.Context, project string, fn func(registry.Repo) error) error {
	return db.eachRepository(ctx, project, fn)
}

// RepositoryTags calls fn for each tag of a repository, in byte order. An error of fn ends it and is
// returned. It reads a page at a time, as ProjectTags does.
func (db *DB) RepositoryTags(ctx context.Context, repo registry.Repo, fn func(tag string, t Tag) error) error {
	type entry struct {
		tag string
		Tag
	}
	read := func(after entry) (all []entry, err error) {
		err = db.read.each(ctx, `SELECT t.tag, `+tagColumns+` FROM tags t JOIN repositories r ON r.id = t.repository_id
			WHERE r.name = $1 AND t.tag > $2 ORDER BY t.tag LIMIT $3`, []any{repo.String(), after.tag, page}, func(rows *sql.Rows) error {
			var e entry
			t, err := scanTag(func(dest ...any) error { return rows.Scan(append([]any{&e.tag}, dest...)...) })
			e.Tag = t
			all = append(all, e)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("catalog: tags of %s: %w", repo, db.explain(err))
		}
		return all, nil
	}
	return walk(read, func(e entry) error { return fn(e.tag, e.Tag) })
}

// Revision is a manifest that a repository has directly.
type Revision struct {
	Digest   registry.Digest
	Size     int64
	Subject  registry.Digest // what it refers to, or ""
	LinkedAt time.Time       // when it was last pushed
	UsedAt   time.Time       // when its content was last pulled by its digest, or first stored
	PulledAt time.Time       // when it was last pulled from here, as far as somebody told; zero: nobody did
	Loose    bool            // no index here is made of it
}

// Revisions calls fn for each manifest that a repository has directly. An error of fn ends it and is
// returned. It reads a page at a time, as ProjectTags does.
func (db *DB) Revisions(ctx context.Context, repo registry.Repo, fn func(Revision) error) error {
	read := func(after revisionRow) (all []revisionRow, err error) {
		err = db.read.each(ctx, `SELECT c.id, c.digest, c.size, l.linked_at, c.used_at, p.pulled_at, l.through = 0, o.digest FROM repositories r
			JOIN links l ON l.repository_id = r.id JOIN content c ON c.id = l.content_id
			LEFT JOIN last_pulls p ON p.content_id = l.content_id AND p.repository_id = l.repository_id
			LEFT JOIN subjects s ON s.manifest_id = c.id LEFT JOIN content o ON o.id = s.subject_id
			WHERE r.name = $1 AND l.content_id > $2 AND l.direct = 1 AND c.stored = 1 AND c.media_type IS NOT NULL
			ORDER BY l.content_id LIMIT $3`, []any{repo.String(), after.id, page}, func(rows *sql.Rows) error {
			row, err := scanRevision(rows)
			all = append(all, row)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("catalog: manifests of %s: %w", repo, db.explain(err))
		}
		return all, nil
	}
	return walk(read, func(row revisionRow) error { return fn(row.Revision) })
}

type revisionRow struct {
	id int64
	Revision
}

func scanRevision(rows *sql.Rows) (e revisionRow, err error) {
	var (
		key, subject []byte
		linked, used int64
		pulled       sql.NullInt64
	)
	if err := rows.Scan(&e.id, &key, &e.Size, &linked, &used, &pulled, &e.Loose, &subject); err != nil {
		return e, err
	}
	e.LinkedAt, e.UsedAt = fromMillis(linked), fromMillis(used)
	if pulled.Valid {
		e.PulledAt = fromMillis(pulled.Int64)
	}
	if e.Digest, err = unpack(key); err != nil || subject == nil {
		return e, err
	}
	e.Subject, err = unpack(subject)
	return e, err
}

// Pulled says that a tag was pulled. There need be no such tag.
func (tx *Tx) Pulled(repo registry.Repo, tag string, at time.Time) error {
	_, err := tx.exec(`UPDATE tags SET pulled_at = $1 WHERE tag = $2 AND pulled_at < $1
		AND repository_id = (SELECT id FROM repositories WHERE name = $3)`, millis(at), tag, repo.String())
	if err == nil {
		_, err = tx.exec(`UPDATE repositories SET pulled_at = $1 WHERE name = $2 AND pulled_at < $1`, millis(at), repo.String())
	}
	if err != nil {
		return tx.spoil(err, "note a pull of %s:%s", repo, tag)
	}
	return nil
}
