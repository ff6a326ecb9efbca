package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"roadstead/registry"
)

// Closure returns the roots and all that they refer to, directly or through other manifests:
// configs, layers, the manifests of an index, and subjects. A digest that the catalog does not
// know is in it if it is a root.
func (db *DB) Closure(ctx context.Context, roots []registry.Digest) (map[registry.Digest]bool, error) {
	all := make(map[registry.Digest]bool, len(roots))
	keys := make([]any, 0, len(roots))
	for _, d := range roots {
		key, err := pack(d)
		if err != nil {
			return nil, fmt.Errorf("catalog: closure: %w", err)
		}
		all[d] = true
		keys = append(keys, key)
	}
	// One level at a time: what the roots refer to is found by their digests, and then by
	// number what that refers to, as far as it was not seen before.
	next, err := db.level(ctx, referredByDigest, keys, all)
	for err == nil && len(next) > 0 {
		next, err = db.level(ctx, referredByID, next, all)
	}
	if err != nil {
		return nil, fmt.Errorf("catalog: closure: %w", db.explain(err))
	}
	return all, nil
}

// ProjectContent calls fn for all stored content that the repositories of a project have, of
// those that want asks for; for content of several repositories more than once. An error of fn
// ends it and is returned. To have content is meant as in Found.Linked, one manifest deep.
//
// It reads a page at a time, as ProjectTags does.
func (db *DB) ProjectContent(ctx context.Context, project string, want func(registry.Repo) bool, fn func(registry.Digest) error) error {
	return db.eachRepository(ctx, project, func(repo registry.Repo) error {
		if !want(repo) {
			return nil
		}
		return db.repositoryContent(ctx, repo, fn)
	})
}

func (db *DB) repositoryContent(ctx context.Context, repo registry.Repo, fn func(registry.Digest) error) error {
	type entry struct {
		id     int64
		digest registry.Digest
	}
	read := func(after entry) (all []entry, err error) {
		err = db.read.each(ctx, `SELECT c.id, c.digest FROM repositories r
			JOIN links l ON l.repository_id = r.id JOIN content c ON c.id = l.content_id
			WHERE r.name = $1 AND l.content_id > $2 AND c.stored = 1 ORDER BY l.content_id LIMIT $3`,
			[]any{repo.String(), after.id, page}, func(rows *sql.Rows) error {
				var (
					e   entry
					key []byte
				)
				err := rows.Scan(&e.id, &key)
				if err == nil {
					e.digest, err = unpack(key)
				}
				all = append(all, e)
				return err
			})
		if err != nil {
			return nil, fmt.Errorf("catalog: content of %s: %w", repo, db.explain(err))
		}
		return all, nil
	}
	return walk(read, func(e entry) error { return fn(e.digest) })
}

// step is how many manifests one question of Closure is about.
const step = 200

var (
	referredByDigest = fmt.Sprintf(referred, "m.digest", "m.digest", placeholders)
	referredByID     = fmt.Sprintf(referred, "m.id", "m.id", placeholders)
	placeholders     = parameters(step)
)

// referred is the question what some manifests refer to.
const referred = `SELECT c.id, c.digest, c.media_type IS NOT NULL FROM content m
		JOIN refs f ON f.manifest_id = m.id JOIN content c ON c.id = f.child_id WHERE %[1]s IN (%[3]s)
	UNION
	SELECT c.id, c.digest, c.media_type IS NOT NULL FROM content m
		JOIN subjects s ON s.manifest_id = m.id JOIN content c ON c.id = s.subject_id WHERE %[2]s IN (%[3]s)`

// level adds to all what the manifests with the given keys refer to, and returns the numbers of
// those manifests among it that are new.
func (db *DB) level(ctx context.Context, query string, keys []any, all map[registry.Digest]bool) ([]any, error) {
	var next []any
	for chunk := range slices.Chunk(keys, step) {
		// The statement always has as many parameters, so it is prepared once. The last one
		// may stand there many times.
		args := slices.Clone(chunk)
		for len(args) < step {
			args = append(args, chunk[len(chunk)-1])
		}
		err := db.read.each(ctx, query, args, func(rows *sql.Rows) error {
			var (
				id       int64
				key      []byte
				manifest bool
			)
			if err := rows.Scan(&id, &key, &manifest); err != nil {
				return err
			}
			d, err := unpack(key)
			if err != nil {
				return err
			}
			if manifest && !all[d] {
				next = append(next, id)
			}
			all[d] = true
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return next, nil
}

// parameters returns "$1, $2, … $n".
func parameters(n int) string { return parametersFrom(1, n) }

func parametersFrom(first, n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = "$" + strconv.Itoa(first+i)
	}
	return strings.Join(list, ", ")
}
