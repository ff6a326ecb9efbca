package cache

import (
	"context"
	"errors"
	"time"

	"roadstead/registry"
	"roadstead/storage/accord"
	"roadstead/storage/catalog"
)

// arrival is content that is linked in the layout and of which the catalog is to be told.
type arrival struct {
	write func(*catalog.Tx) error
	again func(context.Context) error // puts it and its link there once more, if they are not there
	ended func(written bool)          // the catalog knows it, or will not

	known catalog.Placed // when it was put
}

// linked has the catalog told of content that is linked in the layout. It counts as used now: where it
// has come again, the row of the first time may be old.
//
// Another node may have removed it meanwhile, by what the catalog knows: then it is put again, which
// needs the bytes or that somebody else has put them, and the catalog told again.
func (c *Cache) linked(k contentKey, a arrival) {
	now := time.Now()
	var gone *catalog.Unplaced
	c.later(func(tx *catalog.Tx) error {
		gone = nil // it may run twice
		tx.Placed(k.repo, k.digest, a.known)
		err := a.write(tx)
		if u, ok := errors.AsType[*catalog.Unplaced](err); ok {
			gone = u
			return nil
		}
		return errors.Join(err, tx.Touch([]registry.Digest{k.digest}, now))
	}, func(written bool) {
		if !written || gone == nil {
			a.ended(written)
			return
		}
		c.step("arrival: may be gone")
		if !c.work.start(func() { c.linkAgain(k, a, gone) }) {
			a.ended(false)
		}
	})
}

func (c *Cache) linkAgain(k contentKey, a arrival, gone *catalog.Unplaced) {
	ctx, cancel := c.keeping()
	defer cancel()
	known, err := accord.Wait(ctx, c.store, c.catalog, gone)
	if err == nil {
		err = a.again(ctx)
	}
	if err != nil {
		a.ended(false)
		c.fault("store content again that another node has removed", err, "repo", k.repo.String(), "digest", k.digest)
		return
	}
	a.known = known
	c.linked(k, a)
}
