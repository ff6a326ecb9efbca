package cache

import (
	"context"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// found is what the catalog says of content, and foundTag of a tag. born is the number of the last
// forgetting before it was asked: whoever shares the answer may have come after a later one.
type (
	found struct {
		catalog.Found
		born uint64
	}
	foundTag struct {
		catalog.Tag
		seen catalog.Seen
		born uint64
	}
)

// lookUp asks the catalog for what it knows of content in a repository. All who ask at the same time share
// a question: a herd for what nobody has yet would wait for its own hundreds.
func (c *Cache) lookUp(ctx context.Context, k contentKey) (found, error) {
	w, _ := c.lookUps.join(k, c.work.start, func() (f found, err error) {
		f.born = c.forgotten.number.Load()
		err = c.consult(c.life, func(ctx context.Context) (err error) {
			f.Found, err = c.catalog.Find(ctx, k.repo, k.digest)
			return err
		})
		return f, err
	})
	return w.wait(ctx)
}

// lookUpTag is lookUp of a tag.
func (c *Cache) lookUpTag(ctx context.Context, k tagKey) (foundTag, error) {
	w, _ := c.tagLooks.join(k, c.work.start, func() (f foundTag, err error) {
		f.born = c.forgotten.number.Load()
		err = c.consult(c.life, func(ctx context.Context) (err error) {
			f.Tag, f.seen, err = c.catalog.LookTag(ctx, k.repo, k.tag)
			return err
		})
		return f, err
	})
	return w.wait(ctx)
}

// here reports whether the bytes of a digest are in the store. All who ask at the same time share a
// look, as those of a herd do for what nobody has yet. Not knowing is taken for yes, which opens
// nothing: it has others asked who may read them.
func (c *Cache) here(ctx context.Context, d registry.Digest) bool {
	w, _ := c.stats.join(d, c.work.start, func() (bool, error) {
		_, err := c.statStored(c.life, d)
		return err == nil, nil
	})
	there, err := w.wait(ctx)
	return there || err != nil
}

// look reports whether it makes sense to look into the store for a blob that is only named by a
// manifest, and most likely missing. It does not while a flight brings it, nor while somebody else
// looks: a flight looks once for all that join it (see landed). In a bucket each look is a request,
// and a herd would make one for each of its clients. Whoever has looked says so.
func (c *Cache) look(d registry.Digest) bool {
	c.flightsMu.Lock()
	defer c.flightsMu.Unlock()
	if c.flights[d] != nil || c.looks[d] {
		return false
	}
	c.looks[d] = true
	return true
}

// looked ends a look.
func (c *Cache) looked(d registry.Digest) {
	c.flightsMu.Lock()
	defer c.flightsMu.Unlock()
	delete(c.looks, d)
}
