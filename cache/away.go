package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"roadstead/registry"
	"roadstead/storage"
	"roadstead/storage/catalog"
)

// What the catalog knows of cached content is in the layout too, which is written first. While the
// catalog is away the layout is asked in its place: a link of a repository is as good a proof that
// upstream gave it the content as a row, and where a tag points to in the layout is where it did when
// upstream was last asked. It takes a request or two more where the layout is in a bucket.

// catalogQuiet is how long nobody asks a catalog that has let somebody wait for nothing.
const catalogQuiet = time.Second

var errQuiet = errors.New("it took too long a moment ago")

// consult asks the catalog, and for no longer than a request may wait for it.
func (c *Cache) consult(ctx context.Context, question func(context.Context) error) error {
	now := time.Now()
	if now.UnixNano() < c.quietUntil.Load() {
		return fmt.Errorf("%w: %w", catalog.ErrUnavailable, errQuiet)
	}
	within, cancel := context.WithTimeout(ctx, catalogPatience)
	defer cancel()
	err := question(within)
	if err != nil && within.Err() != nil && ctx.Err() == nil {
		c.quietUntil.Store(time.Now().Add(catalogQuiet).UnixNano())
		return fmt.Errorf("%w: no answer within %s", catalog.ErrUnavailable, catalogPatience)
	}
	return err
}

// laidOut reports whether a repository has a link of its own to a digest.
func (c *Cache) laidOut(ctx context.Context, k contentKey) bool {
	linked, err := c.store.Linked(ctx, k.repo.String(), k.digest)
	if err != nil {
		c.fault("look for a link", err, "repo", k.repo.String(), "digest", k.digest)
	}
	if linked {
		c.totals.laidOut.Add(1)
	}
	return linked
}

// tagLaidOut is where a tag points to in the layout. When upstream was last asked that does not say, so
// that the record stands in for upstream where any old one may.
func (c *Cache) tagLaidOut(ctx context.Context, k tagKey) (tagRecord, bool) {
	d, err := c.store.Tagged(ctx, k.repo.String(), k.tag)
	if err != nil {
		if !errors.Is(err, storage.ErrNotFound) {
			c.fault("look for a tag", err, "repo", k.repo.String(), "tag", k.tag)
		}
		return tagRecord{}, false
	}
	content := contentKey{k.repo, d}
	l := c.find(ctx, content)
	if l == nil {
		return tagRecord{}, false
	}
	m, ok := c.manifestHere(ctx, content, l)
	if !ok {
		return tagRecord{}, false
	}
	c.totals.laidOut.Add(1)
	return tagRecord{Tag: catalog.Tag{Descriptor: registry.Descriptor{MediaType: m.MediaType, Digest: d, Size: m.Size}}}, true
}

// rowPause is how long the writer waits for a catalog that is away.
const rowPause = time.Second

// patiently makes a write, as often as it takes until the catalog is there or the house closes: what was
// pulled meanwhile is known then, and can be evicted.
func (c *Cache) patiently(write func(*catalog.Tx) error) error {
	for said := false; ; {
		err := c.update(write)
		if !errors.Is(err, catalog.ErrUnavailable) {
			if said {
				c.log.Info("what was learnt while the catalog was away is written")
			}
			return err
		}
		if !said {
			c.log.Warn("what is learnt waits for the catalog", "err", err)
			said = true
		}
		select {
		case <-c.life.Done():
			return err
		case <-time.After(rowPause):
		}
	}
}
