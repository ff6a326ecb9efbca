package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"roadstead/registry"
)

// Where several nodes write, whoever stores content puts it and its link into the layout and then
// writes the row, while somebody on another node may be removing the same: he writes that it is going,
// removes it, and writes that it has gone. Transactions have an order, so the row's finds the removal
//
//	nowhere         it comes later, and then it sees the row; or it ended a day ago
//	not ended       what was put may go at any time: wait for the end, put again, and try again
//	ended, number   what was put before may have gone: now the number is known, put again, and try
//	unknown         again. If it is found known then, all that was to be deleted was so before it was put.
//
// No clock takes part in that. What is put again is looked for first and mostly there. With a link it is
// the same, but for one that is going: whoever takes it away looks again before he ends that, sees the
// row and puts it back.

// Placed is what somebody knew of removals when he began to put content and its link in a repository
// into the layout: that those up to some number had ended. The zero Placed is of no removal.
type Placed struct {
	removal int64 // of the content
	unlink  int64 // of the link
}

// Unplaced is the error of AddBlob and AddManifest when content, or its link in the repository, may have
// gone from the layout after it was put there. Nothing was written.
type Unplaced struct {
	Repo   registry.Repo
	Digest registry.Digest
	Gone   Placed // what is known from now on
	Going  bool   // it may go at any time: db.Going says until when
}

func (u *Unplaced) Error() string {
	return fmt.Sprintf("%s of %s may have been removed after it was put into the layout", u.Digest, u.Repo)
}

type linkage struct {
	repo   registry.Repo
	digest registry.Digest
}

// removal is what a transaction knows of the last removal of content.
type removal struct {
	number int64 // 0: there was none within a day
	open   bool  // it has not ended
}

// Placed says that content and its link were put into the layout by somebody who knew p when he began.
// It is true of them whoever else writes that they are here.
func (tx *Tx) Placed(repo registry.Repo, d registry.Digest, p Placed) {
	if p == (Placed{}) {
		return
	}
	if tx.placed == nil {
		tx.placed = map[linkage]Placed{}
	}
	was := tx.placed[linkage{repo, d}]
	tx.placed[linkage{repo, d}] = Placed{max(p.removal, was.removal), max(p.unlink, was.unlink)}
}

// arrive says whether it may be written that c is stored and linked in a repository.
func (tx *Tx) arrive(c *content, repo registry.Repo, d registry.Digest) error {
	if !tx.db.Shared() {
		return nil
	}
	if err := tx.askRemoval(c); err != nil {
		return err
	}
	is, err := tx.unlinked(repo, c.key)
	if err != nil {
		return err
	}
	was := tx.placed[linkage{repo, d}]
	if c.removal.open || c.removal.number > was.removal || is > was.unlink {
		tx.left[tx.repos[repo].id] = struct{}{} // it may be new, and nothing has come of that
		return &Unplaced{Repo: repo, Digest: d, Gone: Placed{c.removal.number, is}, Going: c.removal.open}
	}
	return nil
}

// askRemoval reads the last removal of content that another query than find's has read.
func (tx *Tx) askRemoval(c *content) error {
	if c.asked {
		return nil
	}
	err := tx.one(removalQuery, []any{c.key}, &c.removal.number, &c.removal.open)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	c.asked = err == nil
	return err
}

const removalQuery = `SELECT number, CASE WHEN ended_at = 0 THEN 1 ELSE 0 END FROM removals WHERE digest = $1`

// unlinked returns the number of the last end of a removal of a link, or 0. Most repositories have had
// none within a day, and for them it asks nothing.
func (tx *Tx) unlinked(repo registry.Repo, key []byte) (number int64, err error) {
	r, err := tx.repository(repo)
	if err != nil {
		return 0, err
	}
	if !r.unlinks {
		return 0, nil
	}
	err = tx.one(unlinkQuery, []any{repo.String(), key}, &number)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return number, err
}

// One that is going has no number to be known: it may have been going before.
const unlinkQuery = `SELECT number FROM unlinks WHERE repository = $1 AND tag = '' AND digest = $2 AND ended_at > 0`

// findShared is the query of find with the last removal in it.
func (tx *Tx) findShared(c *content) error {
	var digest []byte
	into := c.columns()
	into[1] = &digest
	c.asked = true
	return tx.one(`SELECT COALESCE(c.id, 0), k.digest, COALESCE(c.stored, 0), COALESCE(c.size, 0), c.media_type, COALESCE(c.used_at, 0), COALESCE(c.holders_id, 0),
			COALESCE(r.number, 0), CASE WHEN r.ended_at = 0 THEN 1 ELSE 0 END
		FROM (SELECT $1::bytea AS digest) k LEFT JOIN content c ON c.digest = k.digest LEFT JOIN removals r ON r.digest = k.digest`,
		[]any{c.key}, append(into, &c.removal.number, &c.removal.open)...)
}

// Going says what is known by now of the removal of content that may go at any time: whether it still
// may, and if so, whether it has been left to whoever wants to take it over.
func (db *DB) Going(ctx context.Context, d registry.Digest) (going, left bool, err error) {
	key, err := pack(d)
	var age int64
	if err == nil {
		err = db.read.one(ctx, `SELECT `+databaseTime+` - began_at FROM removals WHERE digest = $1 AND ended_at = 0`, []any{key}, &age)
	}
	if errors.Is(err, sql.ErrNoRows) {
		return false, false, nil
	}
	if err != nil {
		return false, false, fmt.Errorf("catalog: look whether %s is still being removed: %w", d, db.explain(err))
	}
	return true, time.Duration(age)*time.Millisecond > abandoned, nil
}

// Want is how a link should be: what it leads to, or "" when there should be none.
type Want struct {
	Digest   registry.Digest
	Manifest bool // the link is that of a manifest; of a tag it is not said
}

// Wanted says how a link should be, be it that of a digest in a repository or with a tag that of the tag.
func (tx *Tx) Wanted(u Unlinked) (Want, error) { return want(u, tx.Held, tx.Tag) }

// Wanted is that of the transaction, outside of one.
func (db *DB) Wanted(ctx context.Context, u Unlinked) (Want, error) {
	return want(u, func(repo registry.Repo, d registry.Digest) (Held, error) { return db.Held(ctx, repo, d) },
		func(repo registry.Repo, tag string) (Tag, error) { return db.Tag(ctx, repo, tag) })
}

func want(u Unlinked, held func(registry.Repo, registry.Digest) (Held, error), tag func(registry.Repo, string) (Tag, error)) (w Want, err error) {
	if u.Tag == "" {
		var h Held
		h, err = held(u.Repo, u.Digest)
		w = Want{u.Digest, h.MediaType != ""}
	} else {
		var t Tag
		if t, err = tag(u.Repo, u.Tag); !t.Gone {
			w = Want{Digest: t.Digest}
		}
	}
	if errors.Is(err, ErrNotFound) {
		return Want{}, nil
	}
	if err != nil {
		return Want{}, err
	}
	return w, nil
}

// NoteUnlinked lists a link of the layout that the catalog does not have, if that is so, for whoever is
// about to remove it.
func (tx *Tx) NoteUnlinked(u Unlinked) (ok bool, err error) {
	is, err := tx.Wanted(u)
	if err != nil || is != (Want{}) {
		return false, err
	}
	if err := tx.listUnlinked(u); err != nil {
		return false, tx.spoil(err, "note a link of %s", u.Repo)
	}
	return true, nil
}

// Seen is what somebody knew of a tag's forgettings when he read it. Zero is of none.
type Seen int64

// LookTag is Tag, and says what to give SaveTag; that it does with ErrNotFound too.
func (db *DB) LookTag(ctx context.Context, repo registry.Repo, tag string) (Tag, Seen, error) {
	if !db.Shared() {
		t, err := db.Tag(ctx, repo, tag)
		return t, 0, err
	}
	var seen Seen
	var there bool
	t, err := scanTag(func(dest ...any) error {
		return db.read.one(ctx, `SELECT t.digest, COALESCE(t.media_type, ''), COALESCE(t.size, 0), COALESCE(t.checked_at, 0), COALESCE(t.changed_at, 0),
				COALESCE(t.gone, 0), COALESCE(t.pulled_at, 0), CASE WHEN t.tag IS NULL THEN 0 ELSE 1 END, `+seenQuery+`
			FROM (SELECT $1::text AS name, $2::text AS tag) k LEFT JOIN repositories r ON r.name = k.name
			LEFT JOIN tags t ON t.repository_id = r.id AND t.tag = k.tag`, []any{repo.String(), tag}, append(dest, &there, &seen)...)
	})
	if err == nil && !there {
		err = ErrNotFound
	}
	if err != nil {
		return Tag{}, seen, fmt.Errorf("catalog: tag %s:%s: %w", repo, tag, db.explain(err))
	}
	return t, seen, nil
}

const seenQuery = `(SELECT COALESCE(MAX(u.number), 0) FROM unlinks u WHERE u.repository = $1 AND u.tag = $2)`

// SaveTag is PutTag for what somebody has found out of a tag who had seen it as it was when he began.
// Where several nodes write, a tag that was forgotten since is not brought back by that: saved is false
// then. moved says that the tag pointed elsewhere before, or nowhere.
func (tx *Tx) SaveTag(repo registry.Repo, tag string, t Tag, seen Seen) (saved, moved bool, err error) {
	if !tx.db.Shared() {
		return true, false, tx.PutTag(repo, tag, t)
	}
	r, err := tx.repository(repo)
	if err != nil {
		return false, false, tx.spoil(err, "save tag %s:%s", repo, tag)
	}
	if r.unlinks {
		var is Seen
		if err := tx.one(`SELECT `+seenQuery, []any{repo.String(), tag}, &is); err != nil {
			return false, false, tx.spoil(err, "save tag %s:%s", repo, tag)
		}
		if is > seen {
			tx.left[r.id] = struct{}{}
			return false, false, nil
		}
	}
	was, err := tx.Wanted(Unlinked{Repo: repo, Tag: tag})
	if err != nil {
		return false, false, err
	}
	is := t.Digest
	if t.Gone {
		is = ""
	}
	return true, was.Digest != is, tx.PutTag(repo, tag, t)
}

// Untagged reports whether a tag was forgotten within a day, where several nodes write: then its link
// may have gone after it was put there.
func (tx *Tx) Untagged(repo registry.Repo, tag string) (bool, error) {
	if !tx.db.Shared() {
		return false, nil
	}
	r, err := tx.repository(repo)
	if err != nil {
		return false, tx.spoil(err, "look whether tag %s:%s was forgotten", repo, tag)
	}
	if !r.unlinks {
		return false, nil
	}
	var is Seen
	if err := tx.one(`SELECT `+seenQuery, []any{repo.String(), tag}, &is); err != nil {
		return false, tx.spoil(err, "look whether tag %s:%s was forgotten", repo, tag)
	}
	return is > 0, nil
}
