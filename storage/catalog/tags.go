package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"roadstead/registry"
)

// Tag is what is known of a tag. Of the descriptor, media type, digest and size are kept. The
// times are in UTC and exact to the millisecond.
type Tag struct {
	registry.Descriptor           // what it pointed to when last seen; no digest: it was never seen
	CheckedAt           time.Time // when upstream last answered for it
	ChangedAt           time.Time // when it was first seen to point here
	Gone                bool      // upstream said at CheckedAt that there is no such tag; see Evicted
	PulledAt            time.Time // when it was last pulled, coarsely; in hosted projects only; PutTag leaves it
}

// Evicted reports whether nothing of the tag is here and upstream has not said that it is gone: it is held,
// see Hold, and this is where it was.
func (t Tag) Evicted() bool { return t.Gone && t.CheckedAt.IsZero() && t.Digest != "" }

// PutTag writes a tag, over what is there.
func (tx *Tx) PutTag(repo registry.Repo, tag string, t Tag) error {
	if err := tx.putTag(repo, tag, t); err != nil {
		return tx.spoil(err, "put tag %s:%s", repo, tag)
	}
	return nil
}

func (tx *Tx) putTag(repo registry.Repo, tag string, t Tag) error {
	var key []byte
	if t.Digest != "" {
		var err error
		if key, err = pack(t.Digest); err != nil {
			return err
		}
	}
	r, err := tx.repository(repo)
	if err != nil {
		return err
	}
	_, err = tx.exec(`INSERT INTO tags (repository_id, tag, digest, media_type, size, checked_at, changed_at, gone)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (repository_id, tag) DO UPDATE SET digest = excluded.digest, media_type = excluded.media_type,
			size = excluded.size, checked_at = excluded.checked_at, changed_at = excluded.changed_at, gone = excluded.gone`,
		r.id, tag, key, t.MediaType, t.Size, millis(t.CheckedAt), millis(t.ChangedAt), bit(t.Gone))
	if err != nil {
		return err
	}
	r.news(millis(t.ChangedAt))
	if t.Gone {
		tx.left[r.id] = struct{}{}
		return nil
	}
	return tx.show(r)
}

// DeleteTag removes a tag. There may be none.
func (tx *Tx) DeleteTag(repo registry.Repo, tag string) error {
	var id int64
	err := tx.one(`SELECT id FROM repositories WHERE name = $1`, []any{repo.String()}, &id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err == nil {
		_, err = tx.exec(`DELETE FROM tags WHERE repository_id = $1 AND tag = $2`, id, tag)
	}
	if err != nil {
		return tx.spoil(err, "delete tag %s:%s", repo, tag)
	}
	tx.tell(Change{Topic: TagGone, Repo: repo, Tag: tag})
	tx.left[id] = struct{}{}
	return nil
}

// TagsOf lists the tags of a repository that point to d, the gone ones left out, in byte order.
func (tx *Tx) TagsOf(repo registry.Repo, d registry.Digest) ([]string, error) {
	tags, err := tagsOf(repo, d, tx.each)
	if err != nil {
		return nil, tx.spoil(err, "list the tags of %s@%s", repo, d)
	}
	return tags, nil
}

// TagsOf is that of the transaction, outside of one.
func (db *DB) TagsOf(ctx context.Context, repo registry.Repo, d registry.Digest) ([]string, error) {
	tags, err := tagsOf(repo, d, func(query string, args []any, scan func(*sql.Rows) error) error {
		return db.explain(db.read.each(ctx, query, args, scan))
	})
	if err != nil {
		return nil, fmt.Errorf("catalog: list the tags of %s@%s: %w", repo, d, err)
	}
	return tags, nil
}

func tagsOf(repo registry.Repo, d registry.Digest, each func(string, []any, func(*sql.Rows) error) error) ([]string, error) {
	key, err := pack(d)
	if err != nil {
		return nil, err
	}
	var tags []string
	err = each(`SELECT t.tag FROM tags t JOIN repositories r ON r.id = t.repository_id
		WHERE r.name = $1 AND t.digest = $2 AND t.gone = 0 ORDER BY t.tag`,
		[]any{repo.String(), key}, func(rows *sql.Rows) error {
			var tag string
			err := rows.Scan(&tag)
			tags = append(tags, tag)
			return err
		})
	return tags, err
}

// Tag returns what is known of a tag, a gone one included, or ErrNotFound.
func (db *DB) Tag(ctx context.Context, repo registry.Repo, tag string) (Tag, error) {
	t, err := scanTag(func(dest ...any) error {
		return db.read.one(ctx, tagQuery, []any{repo.String(), tag}, dest...)
	})
	if err != nil {
		return Tag{}, fmt.Errorf("catalog: tag %s:%s: %w", repo, tag, db.explain(err))
	}
	return t, nil
}

// Tag is that of the transaction. ErrNotFound does not spoil it.
func (tx *Tx) Tag(repo registry.Repo, tag string) (Tag, error) {
	t, err := scanTag(func(dest ...any) error {
		return tx.one(tagQuery, []any{repo.String(), tag}, dest...)
	})
	if errors.Is(err, ErrNotFound) {
		return Tag{}, fmt.Errorf("catalog: tag %s:%s: %w", repo, tag, err)
	}
	if err != nil {
		return Tag{}, tx.spoil(err, "read tag %s:%s", repo, tag)
	}
	return t, nil
}

const (
	tagColumns = `t.digest, t.media_type, t.size, t.checked_at, t.changed_at, t.gone, t.pulled_at`
	tagQuery   = `SELECT ` + tagColumns + ` FROM tags t JOIN repositories r ON r.id = t.repository_id
		WHERE r.name = $1 AND t.tag = $2`
)

func scanTag(scan func(...any) error) (Tag, error) {
	var (
		t                        Tag
		key                      []byte
		checked, changed, pulled int64
	)
	err := scan(&key, &t.MediaType, &t.Size, &checked, &changed, &t.Gone, &pulled)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	if err == nil && key != nil {
		t.Digest, err = unpack(key)
	}
	t.CheckedAt, t.ChangedAt, t.PulledAt = fromMillis(checked), fromMillis(changed), fromMillis(pulled)
	return t, err
}

// Tags lists at most n tags of a repository that sort after the tag "after", in byte order,
// without those that are gone. n < 0 means all. A repository that is not here has none.
func (db *DB) Tags(ctx context.Context, repo registry.Repo, after string, n int) ([]string, error) {
	tags, err := db.names(ctx, `SELECT t.tag FROM tags t JOIN repositories r ON r.id = t.repository_id
		WHERE r.name = $1 AND t.tag > $2 AND t.gone = 0 ORDER BY t.tag LIMIT $3`, repo.String(), after, limit(n))
	if err != nil {
		return nil, fmt.Errorf("catalog: tags of %s: %w", repo, err)
	}
	return tags, nil
}

// Repositories lists at most n full names of repositories that sort after the name "after", in
// byte order: those that have content, or a tag that is not gone. n < 0 means all.
func (db *DB) Repositories(ctx context.Context, after string, n int) ([]string, error) {
	names, err := db.names(ctx, `SELECT r.name FROM repositories r WHERE r.name > $1
		AND (EXISTS (SELECT 1 FROM links l WHERE l.repository_id = r.id)
			OR EXISTS (SELECT 1 FROM tags t WHERE t.repository_id = r.id AND t.gone = 0))
		ORDER BY r.name LIMIT $2`, after, limit(n))
	if err != nil {
		return nil, fmt.Errorf("catalog: repositories: %w", err)
	}
	return names, nil
}

func (db *DB) names(ctx context.Context, query string, args ...any) ([]string, error) {
	var names []string
	err := db.read.each(ctx, query, args, func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		names = append(names, name)
		return err
	})
	return names, db.explain(err)
}

// ProjectTags calls fn for each tag of a project that has ever pointed to something, in the order
// of repository and tag. One that is gone upstream is among them: what it pointed to is still
// here. An error of fn ends it and is returned.
//
// It reads a page at a time and holds nothing between two of them, so fn may take its time and
// use the catalog; what is written meanwhile is seen or not.
func (db *DB) ProjectTags(ctx context.Context, project string, fn func(repo registry.Repo, tag string, d registry.Digest) error) error {
	return db.eachRepository(ctx, project, func(repo registry.Repo) error { return db.repositoryTags(ctx, repo, fn) })
}

// eachRepository calls fn for each repository of a project, in byte order.
func (db *DB) eachRepository(ctx context.Context, project string, fn func(registry.Repo) error) error {
	read := func(after string) ([]string, error) {
		names, err := db.names(ctx, `SELECT name FROM repositories WHERE project = $1 AND name > $2 ORDER BY name LIMIT $3`,
			project, after, page)
		if err != nil {
			return nil, fmt.Errorf("catalog: repositories of %s: %w", project, err)
		}
		return names, nil
	}
	return walk(read, func(name string) error { return fn(registry.SplitRepo(name)) })
}

func (db *DB) repositoryTags(ctx context.Context, repo registry.Repo, fn func(repo registry.Repo, tag string, d registry.Digest) error) error {
	type pointer struct {
		tag    string
		digest registry.Digest
	}
	read := func(after pointer) (tags []pointer, err error) {
		err = db.read.each(ctx, `SELECT t.tag, t.digest FROM tags t JOIN repositories r ON r.id = t.repository_id
			WHERE r.name = $1 AND t.tag > $2 AND t.digest IS NOT NULL ORDER BY t.tag LIMIT $3`,
			[]any{repo.String(), after.tag, page}, func(rows *sql.Rows) error {
				var (
					p   pointer
					key []byte
				)
				err := rows.Scan(&p.tag, &key)
				if err == nil {
					p.digest, err = unpack(key)
				}
				tags = append(tags, p)
				return err
			})
		if err != nil {
			return nil, fmt.Errorf("catalog: tags of %s: %w", repo, db.explain(err))
		}
		return tags, nil
	}
	return walk(read, func(p pointer) error { return fn(repo, p.tag, p.digest) })
}

// page is how many rows a walk reads at once: so many that the question itself is cheap beside
// its answer.
const page = 1000

// walk calls fn for all that read gives, a page at a time: at most that many rows behind the one
// given, the zero T being before everything. Nothing is held while fn runs.
func walk[T any](read func(after T) ([]T, error), fn func(T) error) error {
	var last T
	for {
		all, err := read(last)
		if err != nil {
			return err
		}
		for _, x := range all {
			if err := fn(x); err != nil {
				return err
			}
		}
		if len(all) < page {
			return nil
		}
		last = all[len(all)-1]
	}
}
