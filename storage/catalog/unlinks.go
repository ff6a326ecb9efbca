package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"roadstead/registry"
)

// Unlinked is a link of the layout that the catalog has forgotten: that of a digest in a repository,
// or with a tag that of the tag that pointed to it. Whoever has it forgotten removes it next and
// then says so with Relinked. When a crash comes between, it is still listed by Unlinks.
type Unlinked struct {
	Repo   registry.Repo
	Tag    string
	Digest registry.Digest
}

// Unlink takes d out of a repository that has it directly, and the tags that point to it. The
// repository keeps what other manifests of it are made of. The content stays stored.
//
// It returns what has to go from the layout, the tags before the digest; nothing when the
// repository did not have d.
func (tx *Tx) Unlink(repo registry.Repo, d registry.Digest) ([]Unlinked, error) {
	all, err := tx.unlink(repo, d)
	if err != nil {
		return nil, tx.spoil(err, "unlink %s from %s", d, repo)
	}
	return all, nil
}

func (tx *Tx) unlink(repo registry.Repo, d registry.Digest) ([]Unlinked, error) {
	c, err := tx.find(d)
	if err != nil || c.id == 0 {
		return nil, err
	}
	if ok, err := tx.dropLink(c, repo); err != nil || !ok {
		return nil, err
	}
	tx.tell(Change{Topic: ContentGone, Repo: repo, Digest: d})
	tags, err := tx.TagsOf(repo, d)
	if err != nil {
		return nil, err
	}
	var all []Unlinked
	for _, tag := range tags {
		gone, err := tx.Untag(repo, tag)
		if err != nil {
			return nil, err
		}
		all = append(all, gone)
	}
	gone := Unlinked{Repo: repo, Digest: d}
	return append(all, gone), tx.listUnlinked(gone)
}

// dropLink removes the direct link of c to a repository, and takes back what c lent it. It
// reports whether there was one.
func (tx *Tx) dropLink(c *content, repo registry.Repo) (bool, error) {
	r, err := tx.repository(repo)
	if err != nil {
		return false, err
	}
	tx.left[r.id] = struct{}{}
	n, err := tx.exec(`DELETE FROM links WHERE content_id = $1 AND repository_id = $2 AND direct = 1 AND through = 0`, c.id, r.id)
	if err == nil && n == 0 {
		n, err = tx.exec(`UPDATE links SET direct = 0, manifest = 0 WHERE content_id = $1 AND repository_id = $2 AND direct = 1`, c.id, r.id)
	}
	if err != nil || n == 0 {
		return false, err
	}
	if err := tx.release(c, r.project); err != nil {
		return false, err
	}
	if !c.mediaType.Valid {
		return true, nil
	}
	if err := tx.forgetPullsIn(r, c); err != nil {
		return false, err
	}
	if err := tx.gain(repo, -1); err != nil {
		return false, err
	}
	children, err := tx.children(c)
	if err != nil {
		return false, err
	}
	for _, child := range children {
		if err := tx.takeBack(child, r); err != nil {
			return false, err
		}
	}
	return true, nil
}

// Untag removes a tag and returns what has to go from the layout. ErrNotFound says that there is no
// such tag, and does not spoil the transaction.
func (tx *Tx) Untag(repo registry.Repo, tag string) (Unlinked, error) {
	t, err := tx.Tag(repo, tag)
	if err != nil {
		return Unlinked{}, err
	}
	gone := Unlinked{Repo: repo, Tag: tag, Digest: t.Digest}
	if err := tx.DeleteTag(repo, tag); err != nil {
		return Unlinked{}, err
	}
	if err := tx.listUnlinked(gone); err != nil {
		return Unlinked{}, tx.spoil(err, "untag %s:%s", repo, tag)
	}
	return gone, nil
}

func (tx *Tx) listUnlinked(u Unlinked) error {
	key, err := pack(u.Digest)
	switch {
	case err != nil:
	case tx.db.Shared():
		err = tx.noteUnlinked(u, key)
	default:
		_, err = tx.exec(`INSERT INTO unlinks (repository, tag, digest) VALUES ($1, $2, $3)
			ON CONFLICT (repository, tag, digest) DO NOTHING`, u.Repo.String(), u.Tag, key)
	}
	return err
}

// Relinked says that a link is as the catalog says: it is gone from the layout, or there again and
// wanted. There need be none listed. On a catalog that several nodes write it is for whoever takes
// links away, in the transaction in which Wanted has said so.
func (tx *Tx) Relinked(u Unlinked) error {
	key, err := pack(u.Digest)
	switch {
	case err != nil:
	case tx.db.Shared():
		err = tx.endUnlink(u, key)
	default:
		_, err = tx.exec(`DELETE FROM unlinks WHERE repository = $1 AND tag = $2 AND digest = $3`, u.Repo.String(), u.Tag, key)
	}
	if err != nil {
		return tx.spoil(err, "end the removal of a link of %s", u.Repo)
	}
	return nil
}

// Linked says that a link which was forgotten is there again and wanted. Where several nodes write it
// says nothing: whoever was taking it away sees that it is wanted, and puts it back.
func (tx *Tx) Linked(u Unlinked) error {
	if tx.db.Shared() {
		return nil
	}
	return tx.Relinked(u)
}

// Unlinks calls fn for each link whose removal has not come to its end. An error of fn ends it and
// is returned. It reads a page at a time, as ProjectTags does.
func (db *DB) Unlinks(ctx context.Context, fn func(Unlinked) error) error {
	type entry struct {
		name string
		key  []byte
		Unlinked
	}
	read := func(after entry) (all []entry, err error) {
		if after.key == nil {
			after.key = []byte{}
		}
		err = db.read.each(ctx, `SELECT repository, tag, digest FROM unlinks WHERE (repository, tag, digest) > ($1, $2, $3) AND ended_at = 0
			ORDER BY repository, tag, digest LIMIT $4`, []any{after.name, after.Tag, after.key, page}, func(rows *sql.Rows) error {
			var e entry
			err := rows.Scan(&e.name, &e.Tag, &e.key)
			if err == nil {
				e.Repo = registry.SplitRepo(e.name)
				e.Digest, err = unpack(e.key)
			}
			all = append(all, e)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("catalog: unfinished removals of links: %w", db.explain(err))
		}
		return all, nil
	}
	return walk(read, func(e entry) error { return fn(e.Unlinked) })
}

// ForgetLoose is Unlink for a blob that is still of no use to the repository: no manifest of it is
// made of it, and its grace began before the given time.
func (tx *Tx) ForgetLoose(repo registry.Repo, d registry.Digest, before time.Time) ([]Unlinked, error) {
	h, err := tx.Held(repo, d)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil || !h.Loose || h.MediaType != "" || !h.LinkedAt.Before(before) {
		return nil, err
	}
	return tx.Unlink(repo, d)
}
