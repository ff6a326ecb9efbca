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
// the removal is still listed and can be brought to its end.
type Removal struct {
	Digest   registry.Digest
	Holdings []Holding
}

// Holding is a repository that had linked a digest directly, with the tags that pointed to it,
// in byte order. These are the links that the layout has of it.
type Holding struct {
	Repo registry.Repo
	Tags []string
}

// ForgetTagged is Forget for content that is going for good: the tags of its repositories that
// point to it go too, and its removal is listed until Removed.
func (tx *Tx) ForgetTagged(d registry.Digest) (Removal, error) {
	repos, err := tx.Forget(d)
	if err != nil {
		return Removal{}, err
	}
	r := Removal{Digest: d}
	if r.Holdings, err = tx.unfinished(d); err != nil {
		return Removal{}, tx.spoil(err, "look for an earlier removal of %s", d)
	}
	for _, repo := range repos {
		tags, err := tx.TagsOf(repo, d)
		if err != nil {
			return Removal{}, err
		}
		for _, tag := range tags {
			if err := tx.DeleteTag(repo, tag); err != nil {
				return Removal{}, err
			}
		}
		r.Holdings = append(r.Holdings, Holding{repo, tags})
	}
	if err := tx.list(r); err != nil {
		return Removal{}, tx.spoil(err, "list the removal of %s", d)
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
	for _, project := range holders {
		// It may have become one since the caller looked.
		if hosted, err := tx.hosted(project); err != nil || hosted {
			return false, err
		}
	}
	return true, nil
}

// unfinished returns the links of a removal of the same digest that never came to its end.
func (tx *Tx) unfinished(d registry.Digest) (holdings []Holding, err error) {
	key, err := pack(d)
	if err != nil {
		return nil, err
	}
	var text string
	err = tx.one(`SELECT holdings FROM removals WHERE digest = $1`, []any{key}, &text)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal([]byte(text), &holdings)
	}
	return holdings, err
}

// list writes a removal down, over what there is of an earlier one.
func (tx *Tx) list(r Removal) error {
	key, err := pack(r.Digest)
	if err != nil {
		return err
	}
	all, err := json.Marshal(r.Holdings)
	if err != nil {
		return err
	}
	_, err = tx.exec(`INSERT INTO removals (digest, holdings) VALUES ($1, $2)
		ON CONFLICT (digest) DO UPDATE SET holdings = excluded.holdings`, key, string(all))
	return err
}

// Removed says that the files of a removal are gone. There need be none.
func (tx *Tx) Removed(d registry.Digest) error {
	key, err := pack(d)
	if err == nil {
		_, err = tx.exec(`DELETE FROM removals WHERE digest = $1`, key)
	}
	if err != nil {
		return tx.spoil(err, "end the removal of %s", d)
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
		WHERE r.digest > $1 AND NOT EXISTS (SELECT 1 FROM content c WHERE c.digest = r.digest AND c.stored = 1)
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
