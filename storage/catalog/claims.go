package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"roadstead/registry"
)

// Where several nodes write, whoever removes content has so long for it. He asks for more when half of
// that is over (Prolong), and what he has not asked the store to delete by the end he leaves to others,
// who take it over some time later (TakeOver). So nobody deletes what has come again since.
//
// What remains: a process that is frozen between its last look at the clock and the sending of a
// request, for longer than the difference of the two, may delete content that has been stored again.
// The same is true of a store that carries out a request so long after whoever sent it has given up.
// A scrub finds it, and a pull of cached content heals it.
const (
	removing  = 10 * time.Second
	abandoned = 30 * time.Second
)

// kept is how long it is remembered that a removal has ended: for whoever began to store the content
// before that, and has not written that down. Nobody takes a day for it.
const kept = 24 * time.Hour

// claim is what makes a removal somebody's.
type claim struct {
	number int64 // 0: it is somebody else's; or the catalog has one writer, and needs none
	since  time.Time
}

// ErrNotOurs says that a removal is somebody else's by now, or was from the beginning. It comes to its
// end without the caller.
var ErrNotOurs = errors.New("somebody else brings this removal to its end")

// Claim returns ctx with the end of the time in which files of a removal may be deleted, or ErrNotOurs
// when that is over. Where one process writes there is no such end.
func (r Removal) Claim(ctx context.Context, shared bool) (context.Context, context.CancelFunc, error) {
	if !shared {
		return ctx, func() {}, nil
	}
	if r.claim.number == 0 || r.claim.age() >= removing {
		return ctx, func() {}, fmt.Errorf("remove %s: %w", r.Digest, ErrNotOurs)
	}
	ctx, cancel := context.WithDeadline(ctx, r.claim.since.Add(removing))
	return ctx, cancel, nil
}

// Late reports whether the half of a removal's time is over, so that it should be prolonged.
func (r Removal) Late() bool { return r.claim.number != 0 && r.claim.age() >= removing/2 }

// age goes by the clock that is further on: one of them stands still while a machine sleeps, and the
// other one may be set.
func (c claim) age() time.Duration {
	return max(time.Since(c.since), time.Now().Round(0).Sub(c.since.Round(0)))
}

// Parts of statements of PostgreSQL.
const (
	databaseMicros = `(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint`
	nextNumber     = `GREATEST(number + 1, ` + databaseMicros + `)`
)

// claim lists a removal as the caller's. When there is one already that has not come to its end, it is
// nobody's: whoever had that may still be deleting, so for a time nobody can say that it has ended.
func (tx *Tx) claim(r *Removal, key []byte, holdings string, open bool) error {
	var number int64
	since := time.Now() // before the database looks at its clock
	err := tx.one(`INSERT INTO removals AS r (digest, holdings, number, began_at, ended_at)
		VALUES ($1, $2, `+databaseMicros+`, `+databaseTime+`, 0)
		ON CONFLICT (digest) DO UPDATE SET holdings = excluded.holdings, number = GREATEST(r.number + 1, excluded.number),
			began_at = excluded.began_at, ended_at = 0 RETURNING number`, []any{key, holdings}, &number)
	if err != nil {
		return err
	}
	if !open {
		r.claim = claim{number, since}
	}
	tx.learnRemoval(key, removal{number, true})
	return nil
}

// Prolong gives whoever has a removal his time anew, or ErrNotOurs, which does not spoil the
// transaction.
func (tx *Tx) Prolong(r *Removal) error {
	if r.claim.number == 0 {
		return nil
	}
	key, err := pack(r.Digest)
	var n int64
	since := time.Now()
	if err == nil {
		n, err = tx.exec(`UPDATE removals SET began_at = `+databaseTime+` WHERE digest = $1 AND number = $2 AND ended_at = 0`, key, r.claim.number)
	}
	if err != nil {
		return tx.spoil(err, "prolong the removal of %s", r.Digest)
	}
	if n == 0 {
		return fmt.Errorf("remove %s: %w", r.Digest, ErrNotOurs)
	}
	r.claim.since = since
	return nil
}

// TakeOver makes a removal the caller's that has not come to its end: ok says whether it may be brought
// there. Where several nodes write, whoever has begun it is left some time for that.
func (tx *Tx) TakeOver(d registry.Digest) (r Removal, ok bool, err error) {
	r = Removal{Digest: d}
	if tx.db.Shared() {
		ok, err = tx.takeOver(&r)
	} else {
		var c *content
		if c, err = tx.find(d); err == nil && !c.stored { // it may have come again
			r.Holdings, ok, err = tx.unfinished(d)
		}
	}
	if err != nil {
		return Removal{}, false, tx.spoil(err, "take over the removal of %s", d)
	}
	return r, ok, nil
}

func (tx *Tx) takeOver(r *Removal) (bool, error) {
	key, err := pack(r.Digest)
	if err != nil {
		return false, err
	}
	var text string
	since := time.Now()
	err = tx.one(`UPDATE removals SET number = `+nextNumber+`, began_at = `+databaseTime+`
		WHERE digest = $1 AND ended_at = 0 AND began_at < `+databaseTime+` - $2 RETURNING number, holdings`,
		[]any{key, abandoned.Milliseconds()}, &r.claim.number, &text)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	r.claim.since = since
	tx.learnRemoval(key, removal{r.claim.number, true})
	return true, json.Unmarshal([]byte(text), &r.Holdings)
}

// endRemoval ends one that is the caller's, and remembers that. What it held is of no use any more.
func (tx *Tx) endRemoval(r Removal, key []byte) error {
	n, err := tx.exec(`UPDATE removals SET ended_at = `+databaseTime+`, holdings = '[]' WHERE digest = $1 AND number = $2 AND ended_at = 0`,
		key, r.claim.number)
	if n > 0 {
		tx.learnRemoval(key, removal{r.claim.number, false})
	}
	return err
}

// learnRemoval notes what this transaction has made of a removal.
func (tx *Tx) learnRemoval(key []byte, r removal) {
	if c := tx.content[string(key)]; c != nil {
		c.removal, c.asked = r, true
	}
}

// noteUnlinked lists a link that has to go from the layout. It is still listed, or again, when it was.
func (tx *Tx) noteUnlinked(u Unlinked, key []byte) error {
	_, err := tx.exec(`INSERT INTO unlinks AS u (repository, tag, digest, number) VALUES ($1, $2, $3, `+databaseMicros+`)
		ON CONFLICT (repository, tag, digest) DO UPDATE SET ended_at = 0,
			number = CASE WHEN u.tag = '' THEN u.number ELSE GREATEST(u.number + 1, excluded.number) END`, u.Repo.String(), u.Tag, key)
	tx.unlinking(u.Repo)
	return err
}

// endUnlink remembers that whoever took away a link has done so and does no more. Each end has a number
// of its own: two may have taken the same one away, and who waits for the first must not take its end
// for that of the second.
func (tx *Tx) endUnlink(u Unlinked, key []byte) error {
	_, err := tx.exec(`UPDATE unlinks SET ended_at = `+databaseTime+`, number = CASE WHEN tag = '' THEN `+nextNumber+` ELSE number END
		WHERE repository = $1 AND tag = $2 AND digest = $3`, u.Repo.String(), u.Tag, key)
	return err
}

// bury remembers that the tags which go with the removal of d were forgotten, where several nodes write:
// their links are the removal's. A node that has just moved one of them may find its new link gone with
// the old: it is told by this to write that once more, or to ask again.
func (tx *Tx) bury(h Holding, d registry.Digest) error {
	if !tx.db.Shared() {
		return nil
	}
	for _, tag := range h.Tags {
		u := Unlinked{Repo: h.Repo, Tag: tag, Digest: d}
		key, err := pack(d)
		if err == nil {
			err = errors.Join(tx.noteUnlinked(u, key), tx.endUnlink(u, key))
		}
		if err != nil {
			return tx.spoil(err, "note that tag %s:%s is forgotten", h.Repo, tag)
		}
	}
	return nil
}

// unlinking notes that a repository has links that go.
func (tx *Tx) unlinking(repo registry.Repo) {
	if r := tx.repos[repo]; r != nil {
		r.unlinks = true
	}
}

// DropEnded forgets removals that came to their end so long ago that nobody need know any more.
func (db *DB) DropEnded(ctx context.Context) error {
	if !db.Shared() {
		return nil
	}
	return db.Update(ctx, func(tx *Tx) error {
		for _, table := range []string{"removals", "unlinks"} {
			_, err := tx.exec(`DELETE FROM `+table+` WHERE ended_at > 0 AND ended_at < `+databaseTime+` - $1`, kept.Milliseconds())
			if err != nil {
				return tx.spoil(err, "forget the %s that have ended", table)
			}
		}
		return nil
	})
}
