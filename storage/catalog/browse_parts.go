package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"roadstead/registry"
)

// mostClaimed is the most that the size of one piece counts for in a total. Manifests may say what
// they like, and a sum of that must not be more than a number holds.
const mostClaimed = 1 << 44

// A + before a column keeps both databases from looking up rows by it: PostgreSQL plans a statement
// once for repositories of all sizes, and would read all that a large one has.

// addTotals says how large artifacts are with all they are made of. Of what a hosted repository
// has by a manifest's word only, it is not said here what it is made of: see AddManifest.
func (db *DB) addTotals(ctx context.Context, s shelf, all []Artifact) error {
	byID := map[int64]*Artifact{}
	for i := range all {
		all[i].Total = all[i].Size
		byID[all[i].ID] = &all[i]
	}
	for chunk := range slices.Chunk(all, step) {
		ids := make([]int64, len(chunk))
		for i, a := range chunk {
			ids[i] = a.ID
		}
		var c conditions
		roots := set(&c, ids)
		repository, direct, most := c.bind(s.id), c.bind(bit(s.hosted)), c.bind(mostClaimed)
		err := db.read.each(ctx, `WITH RECURSIVE parts (root, id, size, manifest) AS (
				SELECT f.manifest_id, f.child_id, f.size, f.media_type IS NOT NULL FROM refs f WHERE f.manifest_id IN (`+roots+`)
				UNION
				SELECT p.root, f.child_id, f.size, f.media_type IS NOT NULL FROM parts p
				JOIN links l ON l.content_id = p.id AND +l.repository_id = `+repository+` AND l.direct >= `+direct+`
				JOIN refs f ON f.manifest_id = p.id
				WHERE p.manifest)
			SELECT root, SUM(size) FROM (SELECT root, id, MAX(CASE WHEN size > `+most+` THEN `+most+` ELSE size END) AS size
				FROM parts GROUP BY root, id) AS pieces GROUP BY root`, c.args, func(rows *sql.Rows) error {
			var id, sum int64
			err := rows.Scan(&id, &sum)
			if a := byID[id]; err == nil && a != nil {
				a.Total += sum
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// addTags gives artifacts their tags.
func (db *DB) addTags(ctx context.Context, s shelf, all []Artifact) error {
	for chunk := range slices.Chunk(all, step) {
		byDigest := make(map[registry.Digest]*Artifact, len(chunk))
		keys := make([][]byte, len(chunk))
		for i := range chunk {
			byDigest[chunk[i].Digest] = &chunk[i]
			var err error
			if keys[i], err = pack(chunk[i].Digest); err != nil {
				return err
			}
		}
		var c conditions
		in(&c, "t.digest", keys)
		c.where("t.digest IS NOT NULL AND +t.repository_id = %s AND t.gone = 0", s.id)
		err := db.read.each(ctx, `SELECT t.tag, `+tagColumns+` FROM tags t`+c.String()+` ORDER BY t.tag`, c.args, func(rows *sql.Rows) error {
			t, err := scanNamedTag(rows.Scan)
			if err != nil {
				return err
			}
			a := byDigest[t.Digest]
			a.Tags = append(a.Tags, t)
			if a.LastPull.At.IsZero() && t.PulledAt.After(a.PulledAt) {
				a.PulledAt = t.PulledAt
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Child is a manifest that an index is made of.
type Child struct {
	registry.Descriptor      // media type, digest and size, as the index says
	Stored              bool // the repository has it, and its content is here
}

// Children lists the manifests that a manifest of a repository is made of, or returns ErrNotFound
// if the repository does not have that. What has no such parts has none.
func (db *DB) Children(ctx context.Context, repo registry.Repo, d registry.Digest) ([]Child, error) {
	all, err := db.children(ctx, repo, d)
	if err != nil {
		return nil, fmt.Errorf("catalog: manifests of %s@%s: %w", repo, d, db.explain(err))
	}
	return all, nil
}

func (db *DB) children(ctx context.Context, repo registry.Repo, d registry.Digest) ([]Child, error) {
	key, err := pack(d)
	if err != nil {
		return nil, err
	}
	s, err := db.shelf(ctx, repo)
	if err != nil {
		return nil, err
	}
	// In a hosted repository a link that is not direct is no right to learn anything.
	var (
		all   []Child
		there bool
	)
	err = db.read.each(ctx, `SELECT o.digest, f.media_type, f.size, o.stored = 1 AND p.content_id IS NOT NULL
		FROM content c JOIN links l ON l.content_id = c.id AND l.repository_id = $2 AND l.direct >= $3
		LEFT JOIN refs f ON f.manifest_id = c.id AND f.media_type IS NOT NULL
		LEFT JOIN content o ON o.id = f.child_id
		LEFT JOIN links p ON p.content_id = o.id AND p.repository_id = $2 AND p.direct >= $3
		WHERE c.digest = $1 AND c.media_type IS NOT NULL ORDER BY f.child_id`, []any{key, s.id, bit(s.hosted)}, func(rows *sql.Rows) error {
		there = true
		child, ok, err := scanChild(rows)
		if ok {
			all = append(all, child)
		}
		return err
	})
	if err == nil && !there {
		err = ErrNotFound
	}
	return all, err
}

// scanChild reads a child; ok is false for the only row of a manifest that has none.
func scanChild(rows *sql.Rows) (child Child, ok bool, err error) {
	var (
		key       []byte
		mediaType sql.NullString
		size      sql.NullInt64
		stored    sql.NullBool
	)
	if err := rows.Scan(&key, &mediaType, &size, &stored); err != nil || key == nil {
		return Child{}, false, err
	}
	child.MediaType, child.Size, child.Stored = mediaType.String, size.Int64, stored.Bool
	child.Digest, err = unpack(key)
	return child, true, err
}
