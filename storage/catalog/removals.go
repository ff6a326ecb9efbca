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

// Removal is content that the catalog has forgotten and whose files may still be there: whoever
// has it forgotten removes those next and then says so with Removed. When a crash comes between,
// the removal is still listed and can be brought to its end by whoever takes it over (TakeOver).
type Removal struct {
	Digest   registry.Digest
	Holdings []Holding
	claim    claim
}

// Holding is a repository that had linked a digest directly, with the tags that pointed to it,
// in byte order. These are the links that the layout has of it.
type Holding struct {
	Repo registry.Repo
	Tags []string
}

// ForgetTagged is Forget for content that is going for good: the tags of its repositories that point to it
// go too, all but what a hold needs of them, and its removal is listed until Removed. Where several nodes
// write, it is known of these tags that they were forgotten, so that a node which moves one meanwhile looks
// again whether its link went with the removal.
func (tx *Tx) ForgetTagged(d registry.Digest) (Removal, error) {
	repos, err := tx.Forget(d)
	if err != nil {
		return Removal{}, err
	}
	r := Removal{Digest: d}
	var open bool
	if r.Holdings, open, err = tx.unfinished(d); err != nil {
		return Removal{}, tx.spoil(err, "look for an earlier removal of %s", d)
	}
	for _, repo := range repos {
		tags, err := tx.TagsOf(repo, d)
		if err != nil {
			return Removal{}, err
		}
		for _, tag := range tags {
			if err := tx.leaveTag(repo, tag, d); err != nil {
				return Removal{}, err
			}
		}
		h := Holding{repo, tags}
		if err := tx.bury(h, d); err != nil {
			return Removal{}, err
		}
		r.Holdings = append(r.Holdings, h)
	}
	if err := tx.list(&r, open); err != nil {
		return Removal{}, tx.spoil(err, "list the removal of %s", d)
	}
	return r, nil
}

// ForgetStray lists the removal of content that is in the layout and not in the catalog, if that is
// so: ok is false when it is stored.
func (tx *Tx) ForgetStray(d registry.Digest) (r Removal, ok bool, err error) {
	c, err := tx.find(d)
	if err != nil {
		return Removal{}, false, tx.spoil(err, "look whether %s is stored", d)
	}
	if c.stored {
		return Removal{}, false, nil
	}
	r, err = tx.ForgetTagged(d)
	return r, true, err
}

// Suspect lists a removal of content whose row and links stay: what lies in the layout under its digest
// is not it, and is to go from there. It is for a catalog that several nodes write, where whoever stores
// the content meanwhile puts it once more after the end. ErrNotOurs, which does not spoil the
// transaction, says that the content is going anyway.
func (tx *Tx) Suspect(d registry.Digest) (Removal, error) {
	r := Removal{Digest: d}
	_, open, err := tx.unfinished(d)
	if err == nil && open {
		return Removal{}, fmt.Errorf("remove %s: %w", d, ErrNotOurs)
	}
	if err == nil {
		err = tx.list(&r, false)
	}
	if err != nil {
		return Removal{}, tx.spoil(err, "list the removal of what should be %s", d)
	}
	return r, nil
}

// ForgetCold is ForgetTagged for what Coldest has listed, if that is still true of it: stored,
// of no other project than the given ones nor of a hosted one, and last used before usedBefore. Otherwise it does
// nothing and ok is false. With an error, ok says whether it was.
func (tx *Tx) ForgetCold(d registry.Digest, projects []string, usedBefore time.Time) (r Removal, ok bool, err error) {
	if ok, err = tx.cold(d, projects, usedBefore); err != nil {
		return Removal{}, false, tx.spoil(err, "look whether %s is still cold", d)
	}
	if !ok {
		return Removal{}, false, nil
	}
	r, err = tx.ForgetTagged(d)
	return r, true, err
}

func (tx *Tx) cold(d registry.Digest, projects []string, usedBefore time.Time) (bool, error) {
	c, err := tx.find(d)
	if err != nil || !c.stored || c.usedAt >= millis(usedBefore) {
		return false, err
	}
	holders, err := tx.holders(c.holders)
	if err != nil || !subset(holders, projects) {
		return false, err
	}
	if len(holders) == 0 {
		// Without a holder it may be an import's, which is going to have it.
		if err := tx.unstaged(); err != nil {
			if errors.Is(err, ErrStaging) {
				err = nil
			}
			return false, err
		}
	}
	for _, project := range holders {
		// It may have become one since the caller looked.
		if hosted, err := tx.hosted(project); err != nil || hosted {
			return false, err
		}
	}
	return true, nil
}

// ForgetLost is ForgetTagged for content whose bytes were found gone at a time, if that may still be true of
// it. It does nothing, and ok is false, when it was used since, as it is by whoever stores it again; and when
// a hosted project has it: that would lose its tags and what is below them, of which nobody else has any,
// while a push heals it where it is.
func (tx *Tx) ForgetLost(d registry.Digest, at time.Time) (r Removal, ok bool, err error) {
	c, err := tx.find(d)
	if err != nil {
		return Removal{}, false, tx.spoil(err, "look whether %s is stored", d)
	}
	if c.stored && c.usedAt >= millis(at) {
		return Removal{}, false, nil
	}
	if pushed, err := tx.pushed(c); err != nil || pushed {
		return Removal{}, false, err
	}
	r, err = tx.ForgetTagged(d)
	return r, true, err
}

// pushed reports whether a hosted project has c.
func (tx *Tx) pushed(c *content) (bool, error) {
	projects, err := tx.holders(c.holders)
	if err != nil {
		return false, tx.spoil(err, "look who has content")
	}
	for _, project := range projects {
		hosted, err := tx.hosted(project)
		if err != nil {
			return false, tx.spoil(err, "look whether project %s is a hosted one", project)
		}
		if hosted {
			return true, nil
		}
	}
	return false, nil
}

// unfinished returns the links of a removal of the same digest that has not come to its end, and
// whether there is one.
func (tx *Tx) unfinished(d registry.Digest) (holdings []Holding, open bool, err error) {
	key, err := pack(d)
	if err != nil {
		return nil, false, err
	}
	var text string
	err = tx.one(`SELECT holdings FROM removals WHERE digest = $1 AND ended_at = 0`, []any{key}, &text)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	if err == nil {
		err = json.Unmarshal([]byte(text), &holdings)
	}
	return holdings, true, err
}

// list writes a removal down, over what there is of an earlier one.
func (tx *Tx) list(r *Removal, open bool) error {
	key, err := pack(r.Digest)
	if err != nil {
		return err
	}
	all, err := json.Marshal(r.Holdings)
	if err != nil {
		return err
	}
	if tx.db.Shared() {
		return tx.claim(r, key, string(all), open)
	}
	_, err = tx.exec(`INSERT INTO removals (digest, holdings) VALUES ($1, $2)
		ON CONFLICT (digest) DO UPDATE SET holdings = excluded.holdings`, key, string(all))
	return err
}

// Removed says that the files of a removal are gone. It need not be listed; where several nodes write
// it is ended by whoever has it, and by nobody who had it.
func (tx *Tx) Removed(r Removal) error {
	key, err := pack(r.Digest)
	switch {
	case err != nil:
	case tx.db.Shared():
		err = tx.endRemoval(r, key)
	default:
		_, err = tx.exec(`DELETE FROM removals WHERE digest = $1`, key)
	}
	if err != nil {
		return tx.spoil(err, "end the removal of %s", r.Digest)
	}
	return nil
}

// Removals lists at most n removals that have not come to their end, of digests behind the one
// given. Content that has been stored again is not among them: its old links lead to it again, and
// go with it the next time.
func (db *DB) Removals(ctx context.Context, after registry.Digest, n int) ([]Removal, error) {
	key := []byte{}
	var err error
	if after != "" {
		if key, err = pack(after); err != nil {
			return nil, fmt.Errorf("catalog: removals: %w", err)
		}
	}
	var all []Removal
	err = db.read.each(ctx, `SELECT r.digest, r.holdings FROM removals r
		WHERE r.digest > $1 AND r.ended_at = 0 AND NOT EXISTS (SELECT 1 FROM content c WHERE c.digest = r.digest AND c.stored = 1)
		ORDER BY r.digest LIMIT $2`, []any{key, limit(n)}, func(rows *sql.Rows) error {
		r, err := scanRemoval(rows)
		all = append(all, r)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("catalog: removals: %w", db.explain(err))
	}
	return all, nil
}

func scanRemoval(rows *sql.Rows) (r Removal, err error) {
	var (
		key  []byte
		text string
	)
	if err := rows.Scan(&key, &text); err != nil {
		return Removal{}, err
	}
	if r.Digest, err = unpack(key); err != nil {
		return Removal{}, err
	}
	return r, json.Unmarshal([]byte(text), &r.Holdings)
}
