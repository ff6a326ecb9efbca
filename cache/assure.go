package cache

import (
	"context"
	"errors"
	"time"

	"roadstead/storage"
	"roadstead/storage/catalog"
)

// assureAfter is when it is looked whether the node that content came from, and that keeps it for all,
// has done so, counted from when all of it was here. It begins seconds later (restless), and puts a
// large layer for a minute; what has not come to its end by then is put here as well, which harms
// nobody.
var assureAfter = []time.Duration{5 * time.Second, 15 * time.Second, time.Minute}

// assure sees to it that content which another node keeps is stored and known indeed: if that ends
// before, the bytes here are all there are, and nobody would look again. The caller is a holder of the
// flight, whose draft is verified.
func (f *flight) assure(draft *storage.Draft, l *link, size int64) {
	c, k := f.cache, f.key
	f.mu.Lock()
	f.holders++
	f.mu.Unlock()
	started := c.work.start(func() {
		begun := time.Now()
		for _, at := range c.assures {
			select {
			case <-time.After(at - time.Since(begun)):
			case <-c.life.Done(): // nobody looks later
			}
			if c.assured(k, size) {
				f.leave()
				return
			}
		}
		c.log.Info("store what another node has not", "repo", k.repo.String(), "digest", k.digest)
		f.place(draft, l, size)
	})
	if !started {
		f.leave()
	}
}

// assured reports whether content is stored and the catalog has it in its repository. Of a catalog that
// is away it is not asked.
func (c *Cache) assured(k contentKey, size int64) bool {
	ctx, cancel := c.keeping()
	defer cancel()
	if is, err := c.store.Stat(ctx, k.digest); err != nil || is != size {
		return false
	}
	var found catalog.Found
	err := c.consult(ctx, func(ctx context.Context) (err error) {
		found, err = c.catalog.Find(ctx, k.repo, k.digest)
		return err
	})
	return err != nil || found.Stored && found.Direct
}

// place stores and links content, and has the catalog told, as keep does for what nobody else keeps. It
// ends a hold on the flight.
func (f *flight) place(draft *storage.Draft, l *link, size int64) {
	c, k := f.cache, f.key
	left, ok := f.enter()
	if !ok {
		f.leave() // nobody wants it any more
		return
	}
	c.store.Traffic.Come(k.digest, awayPatience)
	ctx, cancel := c.keeping()
	defer cancel()
	again := func(ctx context.Context) error { return draft.Again(ctx, k.repo.String()) }
	// A draft of which there is a copy is committed already, to that and not to the store.
	if err := errors.Join(draft.Commit(ctx), again(ctx)); err != nil {
		c.linkEnded(k, l, false, left)
		c.fault("store a blob that another node has not", err, "repo", k.repo.String(), "digest", k.digest)
		f.leave()
		return
	}
	c.absent.end(k.digest)
	c.linked(k, arrival{
		write: func(tx *catalog.Tx) error { return tx.AddBlob(k.repo, k.digest, size) },
		again: again,
		ended: func(written bool) {
			c.linkEnded(k, l, written, left)
			f.leave()
		},
	})
}
