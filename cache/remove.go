package cache

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"roadstead/registry"
	"roadstead/storage"
	"roadstead/storage/accord"
	"roadstead/storage/catalog"
)

// awayPatience is how long content that is leaving is waited for. One that hangs is not the
// client's trouble: at worst a row then stands for content that is gone, which the next pull heals.
const awayPatience = 5 * time.Second

// remove takes away content that is cold, if it still is, and says whether it was. It goes first
// from sight, then from its repositories, then from the disk. A crash in between leaves a removal
// that finishRemovals brings to its end. Who is reading the content reads on: the file is open.
func (c *Cache) remove(ctx context.Context, d registry.Digest, projects []string, usedBefore time.Time) (bool, error) {
	gone, ok := c.store.Traffic.Leave(d)
	if !ok {
		return false, nil
	}
	defer gone()
	// First what is not in the catalog yet: what is written between the two is in both.
	if c.recorder.usedAt(d).After(usedBefore) {
		return false, nil
	}
	removal, cold, err := c.forgetCold(ctx, d, projects, usedBefore)
	if cold && errors.Is(err, syscall.ENOSPC) && !c.catalog.Shared() {
		// There is no room to write down what is to be forgotten. So this once the bytes go
		// first; should a crash come between, a row stands for content that the next pull brings.
		if err := c.store.Remove(ctx, d); err != nil {
			return false, err
		}
		removal, cold, err = c.forgetCold(ctx, d, projects, usedBefore)
	}
	if err != nil {
		return false, fmt.Errorf("forget %s: %w", d, err)
	}
	if !cold {
		return false, nil
	}
	return true, c.clear(ctx, removal)
}

func (c *Cache) forgetCold(ctx context.Context, d registry.Digest, projects []string, usedBefore time.Time) (r catalog.Removal, cold bool, err error) {
	err = c.catalog.Update(ctx, func(tx *catalog.Tx) (err error) {
		r, cold, err = tx.ForgetCold(d, projects, usedBefore)
		return err
	})
	return r, cold, err
}

// clear removes the files of content that the catalog has forgotten.
func (c *Cache) clear(ctx context.Context, r catalog.Removal) error {
	return c.left(accord.Clear(ctx, c.store, c.catalog, r, func() { c.dropped(r) }))
}

// dropped drops from memory what is gone from the store. It comes last: as long as the bytes are there, a
// request may put them back into memory.
func (c *Cache) dropped(r catalog.Removal) { c.memory.forget(r.Digest, r.Holdings) }

// left leaves to others what is not ours to bring to its end.
func (c *Cache) left(err error) error {
	if errors.Is(err, catalog.ErrNotOurs) {
		c.fault("leave a removal to whoever looks next", err)
		return nil
	}
	return err
}

// Unlink removes the links that the layout has of content which the catalog has forgotten. A tag
// that points elsewhere by now stays.
func Unlink(ctx context.Context, store *storage.Store, r catalog.Removal) error {
	var errs []error
	for _, h := range r.Holdings {
		errs = append(errs, store.UnlinkTagged(ctx, h.Repo.String(), h.Tags, r.Digest))
	}
	return errors.Join(errs...)
}

// finishRemovals brings to their end the removals that a crash, or a disk in trouble, cut short.
func (c *Cache) finishRemovals(ctx context.Context) error {
	var errs []error
	for after := registry.Digest(""); ; {
		removals, err := c.catalog.Removals(ctx, after, coldBatch)
		if err != nil {
			return errors.Join(append(errs, fmt.Errorf("list unfinished removals: %w", err))...)
		}
		for _, r := range removals {
			after = r.Digest
			errs = append(errs, c.finishRemoval(ctx, r))
		}
		if len(removals) < coldBatch {
			return errors.Join(errs...)
		}
	}
}

func (c *Cache) finishRemoval(ctx context.Context, r catalog.Removal) error {
	gone, ok := c.store.Traffic.Leave(r.Digest)
	if !ok {
		return nil
	}
	defer gone()
	_, err := accord.Finish(ctx, c.store, c.catalog, r.Digest, c.dropped)
	return c.left(err)
}
