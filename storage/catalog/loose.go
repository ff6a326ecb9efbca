package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"roadstead/registry"
)

// Loose is a blob that a repository of a hosted project has and that no manifest of it is made of.
type Loose struct {
	Repo   registry.Repo
	Digest registry.Digest
	Size   int64
}

// LooseBlobs calls fn for each such blob whose grace began before the given time. An error of fn
// ends it and is returned. It reads a page at a time, as ProjectTags does. The answer is true of
// the moment; ForgetLoose asks again.
func (db *DB) LooseBlobs(ctx context.Context, before time.Time, fn func(Loose) error) error {
	projects, err := db.Projects(ctx)
	if err != nil {
		return err
	}
	for _, p := range projects {
		err := db.eachRepository(ctx, p.Name, func(repo registry.Repo) error { return db.looseBlobs(ctx, repo, before, fn) })
		if err != nil {
			return err
		}
	}
	return nil
}

// RepositoryLooseBlobs is LooseBlobs for one repository.
func (db *DB) RepositoryLooseBlobs(ctx context.Context, repo registry.Repo, before time.Time, fn func(Loose) error) error {
	return db.looseBlobs(ctx, repo, before, fn)
}

func (db *DB) looseBlobs(ctx context.Context, repo registry.Repo, before time.Time, fn func(Loose) error) error {
	type entry struct {
		id int64
		Loose
	}
	read := func(after entry) (all []entry, err error) {
		err = db.read.each(ctx, `SELECT c.id, c.digest, c.size FROM repositories r
			JOIN links l ON l.repository_id = r.id JOIN content c ON c.id = l.content_id
			WHERE r.name = $1 AND l.content_id > $2 AND l.direct = 1 AND l.through = 0 AND l.linked_at < $3
			AND c.stored = 1 AND c.media_type IS NULL ORDER BY l.content_id LIMIT $4`,
			[]any{repo.String(), after.id, millis(before), page}, func(rows *sql.Rows) error {
				e := entry{Loose: Loose{Repo: repo}}
				var key []byte
				err := rows.Scan(&e.id, &key, &e.Size)
				if err == nil {
					e.Digest, err = unpack(key)
				}
				all = append(all, e)
				return err
			})
		if err != nil {
			return nil, fmt.Errorf("catalog: unreferenced blobs of %s: %w", repo, db.explain(err))
		}
		return all, nil
	}
	return walk(read, func(e entry) error { return fn(e.Loose) })
}
