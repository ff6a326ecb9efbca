package catalog

import (
	"database/sql"
	"time"

	"roadstead/registry"
)

// Forget says that the content of d is not stored any more. Every link to it goes, and what it
// referred to; what other manifests say of it stays, so that a repository which has one of
// these still has d and may fetch it again. Tags that point to it stay too.
//
// It returns the repositories that had linked d directly, in byte order. A digest that is not
// there has none.
func (tx *Tx) Forget(d registry.Digest) ([]registry.Repo, error) {
	repos, err := tx.forget(d)
	if err != nil {
		return nil, tx.spoil(err, "forget %s", d)
	}
	return repos, nil
}

func (tx *Tx) forget(d registry.Digest) ([]registry.Repo, error) {
	c, err := tx.find(d)
	if err != nil || c.id == 0 {
		return nil, err
	}
	repos, err := tx.linkers(c)
	if err != nil {
		return nil, err
	}
	if c.mediaType.Valid {
		if err := tx.dropRefs(c, repos); err != nil {
			return nil, err
		}
		if err := tx.forgetPulls(c); err != nil {
			return nil, err
		}
	}
	if _, err := tx.exec(`DELETE FROM links WHERE content_id = $1 AND through = 0`, c.id); err != nil {
		return nil, err
	}
	if _, err := tx.exec(`UPDATE links SET direct = 0, manifest = 0 WHERE content_id = $1`, c.id); err != nil {
		return nil, err
	}
	c.stored, c.size, c.mediaType = false, 0, sql.NullString{}
	if err := tx.save(c); err != nil {
		return nil, err
	}
	tx.bare[c] = struct{}{}
	tx.tell(Change{Topic: ContentGone, Digest: d})
	return repos, tx.leave(c, repos)
}

// dropRefs removes what manifest m refers to, and takes it from the repositories that had it
// through m.
func (tx *Tx) dropRefs(m *content, repos []registry.Repo) error {
	children, err := tx.children(m)
	if err != nil {
		return err
	}
	for _, repo := range repos {
		if err := tx.gain(repo, -1); err != nil {
			return err
		}
		r, err := tx.repository(repo)
		if err != nil {
			return err
		}
		for _, c := range children {
			if err := tx.takeBack(c, r); err != nil {
				return err
			}
		}
	}
	for _, c := range children {
		tx.bare[c] = struct{}{}
	}
	if _, err := tx.exec(`DELETE FROM refs WHERE manifest_id = $1`, m.id); err != nil {
		return err
	}
	return tx.dropSubject(m)
}

// takeBack is the inverse of lend for one child and repository. If that has the child as a blob of
// its own, its grace begins now: somebody may have been told a moment ago that it is here.
func (tx *Tx) takeBack(c *content, r *repository) error {
	n, err := tx.exec(`DELETE FROM links WHERE content_id = $1 AND repository_id = $2 AND direct = 0 AND through = 1`, c.id, r.id)
	if err != nil {
		return err
	}
	if n == 0 {
		grace := int64(0)
		if !c.mediaType.Valid {
			grace = millis(time.Now())
		}
		_, err := tx.exec(`UPDATE links SET through = through - 1, linked_at = CASE WHEN CAST($3 AS BIGINT) > 0 THEN $3 ELSE linked_at END
			WHERE content_id = $1 AND repository_id = $2`, c.id, r.id, grace)
		return err
	}
	tx.left[r.id] = struct{}{}
	return tx.release(c, r.project)
}

func (tx *Tx) dropSubject(m *content) error {
	var subjects []*content
	err := tx.each(`SELECT `+contentColumns+` FROM subjects s JOIN content c ON c.id = s.subject_id
		WHERE s.manifest_id = $1`, []any{m.id}, func(rows *sql.Rows) error {
		c, err := tx.scan(rows)
		subjects = append(subjects, c)
		return err
	})
	if err != nil {
		return err
	}
	for _, c := range subjects {
		tx.bare[c] = struct{}{}
	}
	_, err = tx.exec(`DELETE FROM subjects WHERE manifest_id = $1`, m.id)
	return err
}

// leave notes that repositories have lost c, after their links are gone.
func (tx *Tx) leave(c *content, repos []registry.Repo) error {
	for _, repo := range repos {
		r, err := tx.repository(repo)
		if err != nil {
			return err
		}
		tx.left[r.id] = struct{}{}
		if err := tx.release(c, r.project); err != nil {
			return err
		}
	}
	return nil
}

// Touch says that stored content was used at the given time, be that earlier or later than what
// the catalog knew. Where several nodes write, an earlier one counts for nothing: a node that tries
// again what it could not write says nothing of what others have used since. Digests that are not
// stored are passed over.
//
// It is meant for some thousand at once and now and then: recency need not be exact to evict
// well, and a write for each pull would be most of what a pull costs. Those of one call are one
// statement where the database is elsewhere, and a round trip for each would be a turn to write that
// nobody else has for as long.
func (tx *Tx) Touch(digests []registry.Digest, at time.Time) error {
	keys := make([][]byte, 0, len(digests))
	for _, d := range digests {
		key, err := pack(d)
		if err != nil {
			return tx.spoil(err, "touch %s", d)
		}
		keys = append(keys, key)
	}
	touch := tx.touchEach
	if tx.db.Shared() {
		touch = tx.touchAll
	}
	if err := touch(keys, millis(at)); err != nil {
		return tx.spoil(err, "touch %d digests", len(digests))
	}
	return nil
}

func (tx *Tx) touchEach(keys [][]byte, at int64) error {
	for _, key := range keys {
		n, err := tx.exec(`UPDATE content SET used_at = $1 WHERE digest = $2 AND stored = 1`, at, key)
		if err != nil {
			return err
		}
		if c := tx.content[string(key)]; n > 0 && c != nil {
			c.usedAt, c.saved.usedAt = at, at
		}
	}
	return nil
}

func (tx *Tx) touchAll(keys [][]byte, at int64) error {
	_, err := tx.exec(`UPDATE content SET used_at = $1 WHERE digest = ANY($2::bytea[]) AND stored = 1 AND used_at < $1`, at, keys)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if c := tx.content[string(key)]; c != nil && c.saved.stored {
			c.usedAt, c.saved.usedAt = max(c.usedAt, at), max(c.saved.usedAt, at)
		}
	}
	return nil
}
