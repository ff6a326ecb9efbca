package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"roadstead/registry"
	"roadstead/storage"
	"roadstead/storage/catalog"
)

const (
	// roomEvery is how often it is looked whether there is too much when nothing presses.
	roomEvery = time.Minute

	// removalsEvery is how often it is looked whether a scrub has left some to be finished.
	removalsEvery = 10 * time.Minute

	// verdictsEvery is how often what is known of signatures is pruned of what has long been evicted, and
	// verdictsFor how old that has to be: an image that is pulled again within it needs no upstream to be
	// trusted.
	verdictsEvery = 24 * time.Hour
	verdictsFor   = 90 * 24 * time.Hour

	// rest is how long nothing presses after an eviction that could not do enough. What may not go
	// now may not go at once, and a file system that does not say at once what a removal has freed
	// would have everything removed.
	rest = 2 * time.Second
)

// keepRoom brings unfinished removals to their end and evicts, whenever there is something.
func (c *Cache) keepRoom(ctx context.Context) {
	tick, removals := time.NewTicker(roomEvery), time.NewTicker(removalsEvery)
	defer tick.Stop()
	defer removals.Stop()
	verdicts := time.NewTicker(verdictsEvery)
	defer verdicts.Stop()
	finish := true
	for ctx.Err() == nil {
		if finish {
			finish = false
			if err := errors.Join(c.finishRemovals(ctx), c.finishUnlinks(ctx), c.catalog.DropEnded(ctx)); err != nil && ctx.Err() == nil {
				c.fault("finish what an earlier removal began", err)
			}
		}
		done, err := c.Evict(ctx)
		if err != nil && ctx.Err() == nil && !errors.Is(err, registry.Conflict) {
			c.fault("evict", err)
		}
		if err != nil || done.Short > 0 || done.Count > 0 && c.lacking() {
			select {
			case <-time.After(rest):
			case <-ctx.Done():
			}
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-removals.C:
			finish = true
		case <-verdicts.C:
			if err := c.update(func(tx *catalog.Tx) error { return tx.PruneVerdicts(time.Now().Add(-verdictsFor)) }); err != nil {
				c.fault("prune what is known of signatures", err)
			}
		case <-c.pressure:
		}
	}
}

// lacking reports whether the disk is below its floor.
func (c *Cache) lacking() bool {
	lack, err := c.store.Lack(0)
	return err != nil || lack > 0
}

// press asks for a look soon at whether there is too much.
func (c *Cache) press() {
	select {
	case c.pressure <- struct{}{}:
	default:
	}
}

// want notes that so many bytes should be free above the floor, and asks for a look.
func (c *Cache) want(bytes int64) {
	for {
		old := c.wanted.Load()
		if bytes <= old || c.wanted.CompareAndSwap(old, bytes) {
			break
		}
	}
	c.press()
}

// shortFor is how long flights do not try to make room of a size that was not to be had: content
// that may not go now may not go a moment later, and looking at all of it again for each blob is
// what a full disk needs least.
const shortFor = 10 * time.Second

// unsized is the room that is made for a blob of which nobody tells the size, so that the next
// one may fit: most layers do. One that has come further than that wants twice as much the next
// time, up to mostUnsized, because a body may be without an end.
const (
	unsized     = 64 << 20
	mostUnsized = 4 << 30
)

// reserve makes room for a blob and opens a draft, evicting first when there is too little.
func (f *flight) reserve(ctx context.Context, size int64) (*storage.Draft, error) {
	c := f.cache
	if c.maxSize > 0 && size > c.maxSize {
		return nil, fmt.Errorf("%d bytes are more than the whole cache may hold, which is %d", size, c.maxSize)
	}
	var draft *storage.Draft
	var err error
	fits := func() bool {
		draft, err = c.store.Draft(f.key.digest.Algorithm(), size)
		return !errors.Is(err, storage.ErrFull)
	}
	if fits() {
		return draft, err
	}
	if size < 0 {
		c.want(unsized)
		return nil, err
	}
	if roomErr := c.makeRoom(ctx, size, fits); roomErr != nil {
		return nil, errors.Join(err, roomErr)
	}
	return draft, err
}

// makeRoom removes content until fits says that there is room for size bytes: no more than that,
// because clients are waiting, and nothing at all when it would not be enough. The housekeeping
// makes more room behind it. fits is asked first and after each piece.
func (c *Cache) makeRoom(ctx context.Context, size int64, fits func() bool) error {
	c.evicting.Lock()
	defer c.evicting.Unlock()
	if fits() || !c.store.Together() {
		return nil
	}
	usage, err := c.catalog.Evictable(ctx)
	if err != nil {
		return fmt.Errorf("read the usage: %w", err)
	}
	var e *eviction
	// A few times, because others may take the room that was made for this one.
	for range 3 {
		lack, err := c.store.Lack(size)
		if err != nil {
			return err
		}
		// Where no bytes are lacking it is the number of files, which goes with the bytes.
		lack = cmp.Or(lack, max(size, 1))
		if lack > usage.Bytes || lack >= c.shortOf && time.Since(c.shortAt) < shortFor {
			return nil
		}
		if e == nil {
			if e, err = c.newEviction(ctx); err != nil {
				return err
			}
		}
		enough, err := e.makeRoom(ctx, lack, fits)
		if enough {
			c.log.Info("evicted for a blob", "count", e.done.Count, "bytes", e.done.Bytes)
			c.want(usage.Bytes / slack)
		}
		if enough || err != nil {
			return err
		}
	}
	return nil
}

// makeRoom removes candidates of so many bytes, and reports whether that was enough.
func (e *eviction) makeRoom(ctx context.Context, lack int64, fits func() bool) (bool, error) {
	candidates, err := e.gather(ctx, lack)
	if err == nil && candidates == nil {
		e.cache.shortAt, e.cache.shortOf = e.now, lack
	}
	for _, next := range candidates {
		if err := e.remove(ctx, next); err != nil {
			e.cache.shortAt, e.cache.shortOf = e.now, lack // the catalog, or the disk, is in trouble
			return false, err
		}
		if fits() {
			return true, nil
		}
	}
	return false, err
}
