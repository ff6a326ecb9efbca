package hosted

import (
	"context"
	"errors"
	"fmt"
	"time"

	"roadstead/registry"
	"roadstead/storage/accord"
	"roadstead/storage/catalog"
)

// Collected is what a collection has removed, or would.
type Collected struct {
	Links int   // blobs that repositories had and no manifest of theirs was made of
	Blobs int   // pieces of content that went from the disk
	Bytes int64 // of them
	Gone  []Gone
}

// Gone is a blob that a repository had, or with the zero Repo content that went from the disk.
type Gone struct {
	Repo   registry.Repo
	Digest registry.Digest
	Size   int64
}

const (
	// mostGone bounds the list of what went. Nobody reads more line by line.
	mostGone = 100_000

	// orphans is how many pieces of content that nobody has are listed in one go.
	orphans = 256
)

// Collect removes from repositories the blobs that nothing has referred to for the time of grace,
// and from the disk what no repository has any more. It goes on beside pushes, mounts, deletions
// and pulls, and ends with the first error of a list, a question or a removal; dry it only says
// what would go.
//
// Why an acknowledged image stays whole: an image is acknowledged when its row is written, in a
// transaction that finds all it is made of in the repository. A blob leaves the repository in a
// transaction that finds no manifest made of it. Whichever comes first, the other one sees: the
// push is refused, or the blob stays. Content goes from the disk in a transaction that finds no
// repository with it, while nobody of this node brings it (storage.Traffic), and is removed before a
// row says that another node has brought it (catalog.Unplaced); who brings it later stores it anew.
func (r *Registry) Collect(ctx context.Context, dry bool) (Collected, error) {
	c := &collection{registry: r, dry: dry, loose: map[registry.Digest]int{}}
	err := c.run(ctx)
	if dry {
		return c.done, err
	}
	r.totals.collections.Add(1)
	r.totals.collectedBlobs.Add(int64(c.done.Blobs))
	r.totals.collectedBytes.Add(c.done.Bytes)
	if c.done.Links+c.done.Blobs > 0 || err != nil {
		r.log.Info("collected", "links", c.done.Links, "blobs", c.done.Blobs, "bytes", c.done.Bytes)
	}
	return c.done, err
}

// collection is one run.
type collection struct {
	registry *Registry
	dry      bool
	loose    map[registry.Digest]int // dry: how many repositories would lose it
	done     Collected
}

func (c *collection) run(ctx context.Context) error {
	r := c.registry
	if !c.dry {
		if err := r.finish(ctx); err != nil {
			return fmt.Errorf("finish what was deleted: %w", err)
		}
	}
	// What a client was told of stays for all of the grace, see StatBlob.
	before := time.Now().Add(-r.grace - r.grace/renewals)
	err := r.catalog.LooseBlobs(ctx, before, func(l catalog.Loose) error {
		r.step("collect: listed")
		return c.unlink(ctx, l, before)
	})
	if err != nil {
		return fmt.Errorf("collect unreferenced blobs: %w", err)
	}
	if err := c.sweep(ctx); err != nil {
		return fmt.Errorf("collect content that no repository has: %w", err)
	}
	return nil
}

// unlink takes a blob from its repository if it is still of no use there.
func (c *collection) unlink(ctx context.Context, l catalog.Loose, before time.Time) error {
	if c.dry {
		return c.wouldUnlink(ctx, l)
	}
	r := c.registry
	defer r.locks.own(l.Repo, l.Digest)()
	var gone []catalog.Unlinked
	err := r.catalog.Durable(ctx, func(tx *catalog.Tx) (err error) {
		if r.unchecked {
			gone, err = tx.Unlink(l.Repo, l.Digest)
			return err
		}
		gone, err = tx.ForgetLoose(l.Repo, l.Digest, before)
		return err
	})
	if err != nil || len(gone) == 0 {
		return err
	}
	r.step("collect: forgotten")
	c.done.Links++
	c.note(Gone(l))
	return r.unlink(ctx, gone)
}

func (c *collection) wouldUnlink(ctx context.Context, l catalog.Loose) error {
	c.done.Links++
	c.note(Gone(l))
	c.loose[l.Digest]++
	holders, err := c.registry.catalog.Holders(ctx, l.Digest, "", c.loose[l.Digest]+1)
	if err == nil && len(holders) == c.loose[l.Digest] { // as many as have it
		c.swept(l.Digest, l.Size)
	}
	return err
}

func (c *collection) note(g Gone) {
	if len(c.done.Gone) < mostGone {
		c.done.Gone = append(c.done.Gone, g)
	}
}

func (c *collection) swept(d registry.Digest, size int64) {
	c.done.Blobs++
	c.done.Bytes += size
	c.note(Gone{Digest: d, Size: size})
}

// sweep removes content that no repository has.
func (c *collection) sweep(ctx context.Context) error {
	// However new: nobody can have been told of it.
	always := time.Now().Add(defaultAge)
	for mark := (catalog.Mark{}); ; {
		all, next, err := c.registry.catalog.Coldest(ctx, nil, always, mark, orphans)
		if err != nil {
			return err
		}
		for _, cold := range all {
			c.registry.step("collect: orphan listed")
			err := c.remove(ctx, cold)
			if errors.Is(err, catalog.ErrStaging) {
				c.registry.log.Info("content that no repository has stays for now", "why", err)
				return nil
			}
			if err != nil {
				return err
			}
		}
		if len(all) < orphans {
			return nil
		}
		mark = next
	}
}

// remove removes content if still no repository has it and nobody brings it: first from the
// catalog, which notes the removal, then from the disk.
func (c *collection) remove(ctx context.Context, cold catalog.Cold) error {
	if c.dry {
		c.swept(cold.Digest, cold.Size)
		return nil
	}
	r := c.registry
	gone, ok := r.store.Traffic.Leave(cold.Digest)
	if !ok {
		return nil
	}
	defer gone()
	var removal catalog.Removal
	err := r.catalog.Durable(ctx, func(tx *catalog.Tx) (err error) {
		removal, ok, err = tx.ForgetUnheld(cold.Digest)
		return err
	})
	if err != nil || !ok {
		return err
	}
	r.step("collect: content forgotten")
	c.swept(cold.Digest, cold.Size)
	return r.clear(ctx, removal)
}

// clear removes the files of content that the catalog has forgotten. The caller lets nobody bring it.
func (r *Registry) clear(ctx context.Context, removal catalog.Removal) error {
	ctx, cancel := settle(ctx)
	defer cancel()
	return r.left(accord.Clear(ctx, r.store, r.catalog, removal, func() { r.step("collect: content removed") }))
}

// left leaves to others what is not ours to bring to its end.
func (r *Registry) left(err error) error {
	if errors.Is(err, catalog.ErrNotOurs) {
		r.log.Warn("a removal is left to be finished by whoever looks next", "err", err)
		return nil
	}
	return err
}

// finishRemovals brings to their end the removals of content that a crash cut short.
func (r *Registry) finishRemovals(ctx context.Context) error {
	for after := registry.Digest(""); ; {
		all, err := r.catalog.Removals(ctx, after, orphans)
		if err != nil {
			return err
		}
		for _, removal := range all {
			after = removal.Digest
			if err := r.finishRemoval(ctx, removal); err != nil {
				return err
			}
		}
		if len(all) < orphans {
			return nil
		}
	}
}

func (r *Registry) finishRemoval(ctx context.Context, removal catalog.Removal) error {
	gone, ok := r.store.Traffic.Leave(removal.Digest)
	if !ok {
		return nil
	}
	defer gone()
	ctx, cancel := settle(ctx)
	defer cancel()
	_, err := accord.Finish(ctx, r.store, r.catalog, removal.Digest, func(catalog.Removal) { r.step("collect: content removed") })
	return r.left(err)
}
