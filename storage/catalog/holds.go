package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"roadstead/registry"
)

// Hold is what upstream has moved a tag to, and since when that is known. Of the descriptor, media type,
// digest and size are kept. It stays when the tag follows, so that all nodes decide the same.
type Hold struct {
	registry.Descriptor
	SeenAt   time.Time
	Released bool // somebody has said that the tag is to follow now
}

// Hold notes to what upstream has moved a tag, and returns since when that is so: now, unless it was
// known already.
func (tx *Tx) Hold(repo registry.Repo, tag string, d registry.Descriptor, now time.Time) (Hold, error) {
	key, err := pack(d.Digest)
	if err == nil {
		_, err = tx.exec(`INSERT INTO holds (repository, tag, digest, media_type, size, seen_at, released) VALUES ($1, $2, $3, $4, $5, $6, 0)
			ON CONFLICT (repository, tag) DO UPDATE SET digest = excluded.digest, media_type = excluded.media_type, size = excluded.size,
				seen_at = excluded.seen_at, released = 0 WHERE holds.digest <> excluded.digest`,
			repo.String(), tag, key, d.MediaType, d.Size, millis(now))
	}
	var h Hold
	if err == nil {
		h, err = scanHold(func(dest ...any) error { return tx.one(holdQuery, []any{repo.String(), tag}, dest...) })
	}
	if err != nil {
		return Hold{}, tx.spoil(err, "hold tag %s:%s", repo, tag)
	}
	return h, nil
}

// leaveTag removes a tag whose content goes. Of one that is held stays where it was, as of a tag that is
// gone and was never checked: it is not to follow because there was no room for that.
func (tx *Tx) leaveTag(repo registry.Repo, tag string, d registry.Digest) error {
	key, err := pack(d)
	var n int64
	if err == nil {
		n, err = tx.exec(`UPDATE tags SET gone = 1, checked_at = 0 WHERE tag = $1 AND digest = $2
			AND repository_id = (SELECT id FROM repositories WHERE name = $3)
			AND EXISTS (SELECT 1 FROM holds h WHERE h.repository = $3 AND h.tag = $1 AND h.released = 0 AND h.digest <> $2)`, tag, key, repo.String())
	}
	if err != nil {
		return tx.spoil(err, "leave tag %s:%s", repo, tag)
	}
	if n == 0 {
		return tx.DeleteTag(repo, tag)
	}
	tx.tell(Change{Topic: TagGone, Repo: repo, Tag: tag})
	return nil // that the repository has lost content is noted for that
}

// pruneEvicted removes what leaveTag has left of tags whose holds are older than some time, or forgotten: upstream
// had moved such a tag back, and then what it led to could not be had.
func (tx *Tx) pruneEvicted(before time.Time) error {
	const old = ` FROM tags WHERE gone = 1 AND checked_at = 0 AND NOT EXISTS (SELECT 1 FROM holds h JOIN repositories r ON r.name = h.repository
		WHERE r.id = tags.repository_id AND h.tag = tags.tag AND h.seen_at >= $1)`
	err := tx.each(`SELECT repository_id`+old, []any{millis(before)}, func(rows *sql.Rows) error {
		var id int64
		err := rows.Scan(&id)
		tx.left[id] = struct{}{}
		return err
	})
	if err == nil {
		_, err = tx.exec(`DELETE`+old, millis(before))
	}
	return err
}

// Unhold forgets to what a tag was to move: upstream has moved it back. There may be nothing.
func (tx *Tx) Unhold(repo registry.Repo, tag string) error {
	if _, err := tx.exec(`DELETE FROM holds WHERE repository = $1 AND tag = $2`, repo.String(), tag); err != nil {
		return tx.spoil(err, "take back the hold of tag %s:%s", repo, tag)
	}
	return nil
}

// Release lets a tag follow upstream, and returns to what. ErrNotFound says that it is not held, and
// does not spoil the transaction.
func (tx *Tx) Release(repo registry.Repo, tag string) (registry.Digest, error) {
	var key []byte
	err := tx.one(`UPDATE holds SET released = 1 WHERE repository = $1 AND tag = $2 AND released = 0 RETURNING digest`, []any{repo.String(), tag}, &key)
	if errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("catalog: release tag %s:%s: %w", repo, tag, ErrNotFound)
	}
	var d registry.Digest
	if err == nil {
		d, err = unpack(key)
	}
	if err != nil {
		return "", tx.spoil(err, "release tag %s:%s", repo, tag)
	}
	tx.tell(Change{Topic: Overruled, Repo: repo, Tag: tag})
	return d, nil
}

const holdQuery = `SELECT digest, media_type, size, seen_at, released FROM holds WHERE repository = $1 AND tag = $2`

// HoldOf returns to what a tag is to move, or has moved last, or ErrNotFound.
func (db *DB) HoldOf(ctx context.Context, repo registry.Repo, tag string) (Hold, error) {
	h, err := scanHold(func(dest ...any) error { return db.read.one(ctx, holdQuery, []any{repo.String(), tag}, dest...) })
	if err != nil {
		return Hold{}, fmt.Errorf("catalog: hold of tag %s:%s: %w", repo, tag, db.explain(err))
	}
	return h, nil
}

func scanHold(scan func(...any) error) (Hold, error) {
	var (
		h    Hold
		key  []byte
		seen int64
	)
	err := scan(&key, &h.MediaType, &h.Size, &seen, &h.Released)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	if err == nil {
		h.Digest, err = unpack(key)
	}
	h.SeenAt = fromMillis(seen)
	return h, err
}

// HeldTags counts the tags of each project that stay where they were for now.
func (db *DB) HeldTags(ctx context.Context) (map[string]int64, error) {
	all := map[string]int64{}
	err := db.read.each(ctx, `SELECT r.project, COUNT(*) FROM holds h JOIN repositories r ON r.name = h.repository
		JOIN tags t ON t.repository_id = r.id AND t.tag = h.tag
		WHERE h.released = 0 AND t.digest <> h.digest GROUP BY r.project`, nil, func(rows *sql.Rows) error {
		var (
			project string
			n       int64
		)
		err := rows.Scan(&project, &n)
		all[project] = n
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("catalog: count held tags: %w", db.explain(err))
	}
	return all, nil
}

// HeldTag is a tag that stays where it was for now, and where upstream has it.
type HeldTag struct {
	Repo registry.Repo
	Tag  string
	Hold
}

// Holds lists the tags of all projects that wait, in the order of their names; those that are new and
// not served yet among them.
func (db *DB) Holds(ctx context.Context) ([]HeldTag, error) {
	return list(ctx, db, "held tags", `SELECT h.repository, h.tag, h.digest, h.media_type, h.size, h.seen_at, h.released FROM holds h
		LEFT JOIN repositories r ON r.name = h.repository LEFT JOIN tags t ON t.repository_id = r.id AND t.tag = h.tag
		WHERE t.digest IS NULL OR t.digest <> h.digest ORDER BY h.repository, h.tag`, nil, func(scan func(...any) error) (HeldTag, error) {
		var (
			h    HeldTag
			name string
			err  error
		)
		h.Hold, err = scanHold(func(dest ...any) error { return scan(append([]any{&name, &h.Tag}, dest...)...) })
		h.Repo = registry.SplitRepo(name)
		return h, err
	})
}
