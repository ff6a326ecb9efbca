package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"roadstead/registry"
)

// Held is what is known of stored content that a repository of a hosted project has directly.
type Held struct {
	Size      int64
	MediaType string    // of a manifest; empty for what is not known to be one
	Loose     bool      // no manifest of the repository is made of it
	LinkedAt  time.Time // since when it is here, or was last of use: to a manifest, or by Renew
}

// Held says what is known of d in a repository of a hosted project, or ErrNotFound. What the
// repository has only because a manifest names it is not found.
func (db *DB) Held(ctx context.Context, repo registry.Repo, d registry.Digest) (Held, error) {
	h, err := scanHeld(d, func(key []byte, dest ...any) error {
		return db.read.one(ctx, heldQuery, []any{repo.String(), key}, dest...)
	})
	if err != nil {
		return Held{}, fmt.Errorf("catalog: find %s in %s: %w", d, repo, db.explain(err))
	}
	return h, nil
}

// Held is that of the transaction. ErrNotFound does not spoil it.
func (tx *Tx) Held(repo registry.Repo, d registry.Digest) (Held, error) {
	h, err := scanHeld(d, func(key []byte, dest ...any) error {
		return tx.one(heldQuery, []any{repo.String(), key}, dest...)
	})
	if errors.Is(err, ErrNotFound) {
		return Held{}, fmt.Errorf("catalog: find %s in %s: %w", d, repo, err)
	}
	if err != nil {
		return Held{}, tx.spoil(err, "find %s in %s", d, repo)
	}
	return h, nil
}

const heldQuery = `SELECT c.size, c.media_type, l.through = 0, l.linked_at FROM content c
	JOIN repositories r ON r.name = $1
	JOIN links l ON l.content_id = c.id AND l.repository_id = r.id
	WHERE c.digest = $2 AND c.stored = 1 AND l.direct = 1`

func scanHeld(d registry.Digest, scan func(key []byte, dest ...any) error) (Held, error) {
	key, err := pack(d)
	if err != nil {
		return Held{}, err
	}
	var (
		h         Held
		mediaType sql.NullString
		linked    int64
	)
	err = scan(key, &h.Size, &mediaType, &h.Loose, &linked)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	h.MediaType, h.LinkedAt = mediaType.String, fromMillis(linked)
	return h, err
}

const hasQuery = `SELECT c.digest, c.media_type IS NOT NULL FROM content c
	JOIN repositories r ON r.name = $1
	JOIN links l ON l.content_id = c.id AND l.repository_id = r.id
	WHERE c.stored = 1 AND l.direct = 1 AND c.digest IN (%s)`

// hasQueries are the same for up to so many digests. Most images have a few layers; few have
// hundreds, and each parameter costs.
var hasQueries = []struct {
	digests int
	query   string
}{
	{4, fmt.Sprintf(hasQuery, parametersFrom(2, 4))},
	{16, fmt.Sprintf(hasQuery, parametersFrom(2, 16))},
	{step, fmt.Sprintf(hasQuery, parametersFrom(2, step))},
}

// Has says which of some digests a repository has as Held means it, and of each whether it is a
// manifest.
func (db *DB) Has(ctx context.Context, repo registry.Repo, digests []registry.Digest) (map[registry.Digest]bool, error) {
	has, err := has(repo, digests, func(query string, args []any, scan func(*sql.Rows) error) error {
		return db.explain(db.read.each(ctx, query, args, scan))
	})
	if err != nil {
		return nil, fmt.Errorf("catalog: look for content in %s: %w", repo, err)
	}
	return has, nil
}

// Has is that of the transaction.
func (tx *Tx) Has(repo registry.Repo, digests []registry.Digest) (map[registry.Digest]bool, error) {
	has, err := has(repo, digests, tx.each)
	if err != nil {
		return nil, tx.spoil(err, "look for content in %s", repo)
	}
	return has, nil
}

func has(repo registry.Repo, digests []registry.Digest, each func(string, []any, func(*sql.Rows) error) error) (map[registry.Digest]bool, error) {
	has := make(map[registry.Digest]bool, len(digests))
	for chunk := range slices.Chunk(digests, step) {
		size := 0
		for hasQueries[size].digests < len(chunk) {
			size++
		}
		args := []any{repo.String()}
		for i := range hasQueries[size].digests {
			// The last digest stands there as often as it takes.
			if i >= len(chunk) {
				args = append(args, args[len(args)-1])
				continue
			}
			key, err := pack(chunk[i])
			if err != nil {
				return nil, err
			}
			args = append(args, key)
		}
		err := each(hasQueries[size].query, args, func(rows *sql.Rows) error {
			var (
				key      []byte
				manifest bool
			)
			if err := rows.Scan(&key, &manifest); err != nil {
				return err
			}
			d, err := unpack(key)
			has[d] = manifest
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return has, nil
}

// ProjectHas reports whether any repository of a hosted project has d as Held means it, so that it
// counts for the project.
func (db *DB) ProjectHas(ctx context.Context, project string, d registry.Digest) (bool, error) {
	key, err := pack(d)
	var has bool
	if err == nil {
		err = db.read.one(ctx, `SELECT EXISTS (SELECT 1 FROM content c JOIN links l ON l.content_id = c.id
			JOIN repositories r ON r.id = l.repository_id
			WHERE c.digest = $1 AND c.stored = 1 AND l.direct = 1 AND r.project = $2)`, []any{key, project}, &has)
	}
	if err != nil {
		return false, fmt.Errorf("catalog: look for %s in project %s: %w", d, project, db.explain(err))
	}
	return has, nil
}

// HasRepository reports whether there is a repository: one with a tag or with content.
func (db *DB) HasRepository(ctx context.Context, repo registry.Repo) (bool, error) {
	var has bool
	err := db.read.one(ctx, `SELECT EXISTS (SELECT 1 FROM repositories WHERE name = $1)`, []any{repo.String()}, &has)
	if err != nil {
		return false, fmt.Errorf("catalog: look for repository %s: %w", repo, db.explain(err))
	}
	return has, nil
}

// Renew says that d is of use to a repository that has it directly, which begins its grace anew.
// It reports whether the repository has it.
func (tx *Tx) Renew(repo registry.Repo, d registry.Digest, at time.Time) (bool, error) {
	key, err := pack(d)
	var n int64
	if err == nil {
		n, err = tx.exec(`UPDATE links SET linked_at = $1
			WHERE direct = 1 AND content_id = (SELECT id FROM content WHERE digest = $2 AND stored = 1)
			AND repository_id = (SELECT id FROM repositories WHERE name = $3)`, millis(at), key, repo.String())
	}
	if err != nil {
		return false, tx.spoil(err, "renew %s in %s", d, repo)
	}
	return n > 0, nil
}

// ProjectUsage returns how much stored content a project has, with what the transaction has changed.
// It reads counters, not content.
func (tx *Tx) ProjectUsage(project string) (Usage, error) {
	var sum Usage
	add := func(projects []string, u Usage) {
		if slices.Contains(projects, project) {
			sum.Bytes += u.Bytes
			sum.Count += u.Count
		}
	}
	err := tx.each(`SELECT projects, bytes, count FROM holders WHERE count > 0`, nil, func(rows *sql.Rows) error {
		var (
			joined string
			u      Usage
		)
		err := rows.Scan(&joined, &u.Bytes, &u.Count)
		add(splitProjects(joined), u)
		return err
	})
	for id, change := range tx.usage {
		if err != nil {
			break
		}
		var projects []string
		projects, err = tx.holders(id)
		add(projects, change)
	}
	if err != nil {
		return Usage{}, tx.spoil(err, "usage of project %s", project)
	}
	return sum, nil
}

// Holders returns the repositories that have d directly, at most n of those whose names sort behind
// "after", in byte order.
func (db *DB) Holders(ctx context.Context, d registry.Digest, after string, n int) ([]registry.Repo, error) {
	key, err := pack(d)
	var names []string
	if err == nil {
		names, err = db.names(ctx, `SELECT r.name FROM content c JOIN links l ON l.content_id = c.id
			JOIN repositories r ON r.id = l.repository_id
			WHERE c.digest = $1 AND c.stored = 1 AND l.direct = 1 AND r.name > $2 ORDER BY r.name LIMIT $3`, key, after, limit(n))
	}
	if err != nil {
		return nil, fmt.Errorf("catalog: repositories with %s: %w", d, err)
	}
	repos := make([]registry.Repo, len(names))
	for i, name := range names {
		repos[i] = registry.SplitRepo(name)
	}
	return repos, nil
}

// DirectReferrers is Referrers without manifests that the repository has only because an index
// names them.
func (db *DB) DirectReferrers(ctx context.Context, repo registry.Repo, d registry.Digest, artifactType string) ([]registry.Descriptor, error) {
	referrers, err := db.referrers(ctx, repo, d, artifactType, 1)
	if err != nil {
		return nil, fmt.Errorf("catalog: referrers of %s in %s: %w", d, repo, db.explain(err))
	}
	return referrers, nil
}

// Parents returns the manifests that a repository has directly and that are made of d.
func (tx *Tx) Parents(repo registry.Repo, d registry.Digest) ([]registry.Digest, error) {
	key, err := pack(d)
	var parents []registry.Digest
	if err == nil {
		err = tx.each(`SELECT m.digest FROM content c
			JOIN refs f ON f.child_id = c.id JOIN content m ON m.id = f.manifest_id
			JOIN links l ON l.content_id = m.id JOIN repositories r ON r.id = l.repository_id
			WHERE c.digest = $1 AND r.name = $2 AND l.direct = 1`, []any{key, repo.String()}, func(rows *sql.Rows) error {
			var key []byte
			if err := rows.Scan(&key); err != nil {
				return err
			}
			d, err := unpack(key)
			parents = append(parents, d)
			return err
		})
	}
	if err != nil {
		return nil, tx.spoil(err, "look for what is made of %s in %s", d, repo)
	}
	return parents, nil
}
