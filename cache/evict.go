package cache

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// Evicted says what an eviction did.
type Evicted struct {
	Count int   // pieces of content that went
	Bytes int64 // their bytes
	Short int64 // bytes that should have gone too but may not: pinned, in use, or younger than Keep
}

const (
	// roomEvery is how often the high-water mark is looked at when nothing presses.
	roomEvery = time.Minute

	// slack is how far below the high-water mark an eviction goes, as a fraction of it, so
	// that the next blob does not need one of its own.
	slack = 20 // one twentieth

	// coldBatch is how many candidates are looked at in one go.
	coldBatch = 256
)

// keepRoom evicts whenever the content exceeds the high-water mark.
func (c *Cache) keepRoom(ctx context.Context) {
	tick := time.NewTicker(roomEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-c.pressure:
		}
		if _, err := c.Evict(ctx); err != nil && ctx.Err() == nil {
			c.fault("evict", err)
		}
	}
}

// press asks for a look at the high-water mark soon.
func (c *Cache) press() {
	select {
	case c.pressure <- struct{}{}:
	default:
	}
}

// Evict removes the least recently used content beyond the high-water mark, if there is any
// that may go. Without Run its view of recency is that of the catalog.
func (c *Cache) Evict(ctx context.Context) (Evicted, error) {
	if c.maxSize <= 0 {
		return Evicted{}, nil
	}
	usage, err := c.catalog.Usage(ctx)
	if err != nil {
		return Evicted{}, fmt.Errorf("read the usage: %w", err)
	}
	if usage.Bytes <= c.maxSize {
		return Evicted{}, nil
	}
	return c.evict(ctx, usage.Bytes-c.maxSize+c.maxSize/slack)
}

// evict removes content of at least so many bytes, least recently used first.
func (c *Cache) evict(ctx context.Context, bytes int64) (Evicted, error) {
	c.evicting.Lock()
	defer c.evicting.Unlock()
	c.writeTouches()

	e := eviction{cache: c, need: bytes, now: time.Now()}
	if err := e.keeps(ctx); err != nil {
		return Evicted{}, err
	}
	if err := e.pins(ctx); err != nil {
		return Evicted{}, err
	}
	if err := e.run(ctx); err != nil {
		return e.done, err
	}
	e.done.Short = max(0, e.need)
	if e.done.Count > 0 || e.done.Short > 0 {
		c.log.Info("evicted", "count", e.done.Count, "bytes", e.done.Bytes, "short", e.done.Short)
	}
	return e.done, nil
}

// eviction is one run.
type eviction struct {
	cache  *Cache
	need   int64 // bytes still to go
	now    time.Time
	keep   map[string]time.Duration // by project: how long after its last use content stays
	pinned map[registry.Digest]bool
	done   Evicted
}

// keeps finds which projects there is content of. That of a project which the configuration
// no longer names goes like any other, else it would stay for ever.
func (e *eviction) keeps(ctx context.Context) error {
	stored, err := e.cache.catalog.ByProject(ctx)
	if err != nil {
		return fmt.Errorf("find the projects with content: %w", err)
	}
	e.keep = map[string]time.Duration{}
	configured := *e.cache.projects.Load()
	for name := range stored {
		e.keep[name] = defaultKeep
		if p := configured[name]; p != nil {
			e.keep[name] = max(0, p.Keep)
		}
	}
	return nil
}

// pins finds all content that a pinned tag leads to.
func (e *eviction) pins(ctx context.Context) error {
	var roots []registry.Digest
	for _, p := range *e.cache.projects.Load() {
		if len(p.rules.pin) == 0 {
			continue
		}
		err := e.cache.catalog.ProjectTags(ctx, p.Name, func(repo registry.Repo, tag string, d registry.Digest) error {
			if p.rules.pinned(repo.Name, tag) {
				roots = append(roots, d)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("list the tags of project %s: %w", p.Name, err)
		}
	}
	var err error
	if e.pinned, err = e.cache.catalog.Closure(ctx, roots); err != nil {
		return fmt.Errorf("find what pinned tags refer to: %w", err)
	}
	return nil
}

// run removes candidates until there is room. What may not go is passed over, so each round
// asks for as many more as have been passed.
func (e *eviction) run(ctx context.Context) error {
	passed := map[registry.Digest]bool{}
	for e.need > 0 {
		cold, err := e.candidates(ctx, coldBatch+len(passed))
		if err != nil {
			return err
		}
		progress := false
		for _, content := range cold {
			switch {
			case e.need <= 0:
				return nil
			case passed[content.Digest]:
				continue
			}
			progress = true
			if e.pinned[content.Digest] || e.cache.flying(content.Digest) {
				passed[content.Digest] = true
				continue
			}
			if err := e.remove(ctx, content); err != nil {
				return err
			}
		}
		if !progress {
			return nil
		}
	}
	return nil
}

// candidates are the n coldest pieces of content that are older than their projects keep
// them. Projects with the same Keep are asked for together; content of several projects is
// left to the one that keeps it longest.
func (e *eviction) candidates(ctx context.Context, n int) ([]catalog.Cold, error) {
	keeps := slices.Compact(slices.Sorted(maps.Values(e.keep)))
	seen := map[registry.Digest]bool{}
	var all []catalog.Cold
	for _, keep := range keeps {
		var names []string
		for name, own := range e.keep {
			if own <= keep {
				names = append(names, name)
			}
		}
		cold, err := e.cache.catalog.Coldest(ctx, names, e.now.Add(-keep), n)
		if err != nil {
			return nil, fmt.Errorf("find the least recently used content: %w", err)
		}
		for _, content := range cold {
			if !seen[content.Digest] {
				seen[content.Digest] = true
				all = append(all, content)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b catalog.Cold) int { return a.UsedAt.Compare(b.UsedAt) })
	return all, nil
}

// remove takes one piece of content away: first from sight, then from its repositories, then
// from the disk. A crash in between leaves bytes that nobody sees, and a later fetch of them
// heals that. Who is reading them reads on: the file is open.
func (e *eviction) remove(ctx context.Context, content catalog.Cold) error {
	c := e.cache
	var holdings []catalog.Holding
	err := c.catalog.Update(ctx, func(tx *catalog.Tx) (err error) {
		holdings, err = tx.ForgetTagged(content.Digest)
		return err
	})
	if err != nil {
		return fmt.Errorf("forget %s: %w", content.Digest, err)
	}
	for _, h := range holdings {
		for _, tag := range h.Tags {
			if err := c.store.Untag(ctx, h.Repo.String(), tag); err != nil {
				c.fault("remove the link of an evicted tag", err, "repo", h.Repo.String(), "tag", tag)
			}
		}
	}
	for _, h := range holdings {
		if err := c.store.Unlink(ctx, h.Repo.String(), content.Digest); err != nil {
			c.fault("unlink evicted content", err, "repo", h.Repo.String(), "digest", content.Digest)
		}
	}
	if err := c.store.Remove(ctx, content.Digest); err != nil {
		return fmt.Errorf("remove %s: %w", content.Digest, err)
	}
	// Last: as long as the bytes are there, a request may put them back into memory.
	c.memory.forget(content.Digest, holdings)
	e.need -= content.Size
	e.done.Count++
	e.done.Bytes += content.Size
	c.totals.evictedCount.Add(1)
	c.totals.evictedBytes.Add(content.Size)
	return nil
}

// flying reports whether a digest is being fetched now.
func (c *Cache) flying(d registry.Digest) bool {
	c.flightsMu.Lock()
	defer c.flightsMu.Unlock()
	return c.flights[d] != nil
}
