package cache

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"syscall"
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
	// roomEvery is how often it is looked whether there is too much when nothing presses.
	roomEvery = time.Minute

	// slack is how much more goes than has to, as a fraction of what is stored, so that the next
	// blob does not need an eviction of its own.
	slack = 20 // one twentieth

	// coldBatch is how many candidates are looked at in one go.
	coldBatch = 256

	// shortFor is how long a flight does not try to make room after another has tried in vain:
	// content that may not go now may not go a moment later, and looking at all of it again for
	// each blob is what a full disk needs least.
	shortFor = 10 * time.Second
)

// keepRoom brings unfinished removals to their end, and then evicts whenever there is too much.
func (c *Cache) keepRoom(ctx context.Context) {
	if err := c.finishRemovals(ctx); err != nil && ctx.Err() == nil {
		c.fault("finish what an earlier eviction began", err)
	}
	tick := time.NewTicker(roomEvery)
	defer tick.Stop()
	pressure := c.pressure
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-pressure:
		}
		done, err := c.Evict(ctx)
		if err != nil && ctx.Err() == nil {
			c.fault("evict", err)
		}
		pressure = c.pressure
		if err != nil || done.Short > 0 {
			pressure = nil // until the next tick: what may not go now may not go at once
		}
	}
}

// press asks for a look soon at whether there is too much.
func (c *Cache) press() {
	select {
	case c.pressure <- struct{}{}:
	default:
	}
}

// want notes that there was no room for so many bytes, for the next look.
func (c *Cache) want(bytes int64) {
	for {
		old := c.wanted.Load()
		if bytes <= old || c.wanted.CompareAndSwap(old, bytes) {
			break
		}
	}
	c.press()
}

// Evict removes the least recently used content beyond the high-water mark, or as much as the
// disk lacks of its floor and of what could not be kept lately, as far as that may go. Without
// Run its view of recency is that of the catalog.
func (c *Cache) Evict(ctx context.Context) (Evicted, error) { return c.evict(ctx, c.excess) }

// excess says how many bytes there are too many.
func (c *Cache) excess(ctx context.Context) (int64, error) {
	usage, err := c.catalog.Usage(ctx)
	if err != nil {
		return 0, fmt.Errorf("read the usage: %w", err)
	}
	lack, err := c.store.Lack(c.wanted.Swap(0))
	if err == nil && lack > usage.Bytes {
		lack, err = c.store.Lack(0) // what was wanted does not fit in any case
	}
	if err != nil {
		return 0, fmt.Errorf("look for room: %w", err)
	}
	if c.maxSize > 0 {
		lack = max(lack, usage.Bytes-c.maxSize)
	}
	return lack, nil
}

// evict removes content of at least as many bytes as lack says, least recently used first.
// Evictions take turns, and each asks when it is its own.
func (c *Cache) evict(ctx context.Context, lack func(context.Context) (int64, error)) (Evicted, error) {
	c.evicting.Lock()
	defer c.evicting.Unlock()
	need, err := lack(ctx)
	if err != nil || need <= 0 {
		return Evicted{}, err
	}
	c.writeTouches()
	usage, err := c.catalog.Usage(ctx)
	if err != nil {
		return Evicted{}, fmt.Errorf("read the usage: %w", err)
	}
	if need > usage.Bytes {
		// All that is here would not be enough: somebody else fills the disk, or upstream has
		// claimed a size that nothing has. What is here is worth more than that.
		return Evicted{Short: need}, nil
	}
	e := eviction{cache: c, need: need + usage.Bytes/slack, now: time.Now()}
	if err := e.prepare(ctx); err != nil {
		return Evicted{}, err
	}
	err = e.run(ctx)
	if err != nil {
		return e.done, err
	}
	short := c.shortAt
	c.shortAt = time.Time{}
	if e.done.Bytes < need {
		c.shortAt = e.now
	}
	e.done.Short = max(0, e.need)
	switch {
	case e.done.Count > 0:
		c.log.Info("evicted", "count", e.done.Count, "bytes", e.done.Bytes, "short", e.done.Short)
	case !c.shortAt.IsZero() && short.IsZero():
		c.log.Warn("there is too much, and nothing may go: it is pinned, in use, or younger than keep", "short", e.done.Short)
	}
	return e.done, nil
}

// eviction is one run.
type eviction struct {
	cache  *Cache
	need   int64 // bytes still to go
	now    time.Time
	tiers  []*tier
	pinned map[registry.Digest]bool
	owed   []candidate // to be removed
	full   error       // why they could not be forgotten, when that was for want of room
	done   Evicted
}

// candidate is content that is to go, of a tier.
type candidate struct {
	catalog.Cold
	tier *tier
}

// tier is the content of the projects that keep theirs no longer than some time. What several
// projects have is in the tier of the one that keeps it longest.
type tier struct {
	projects   []string
	usedBefore time.Time
	mark       catalog.Mark   // how far it has been read
	ahead      []catalog.Cold // read and not looked at
	end        bool           // all has been read
}

func (e *eviction) prepare(ctx context.Context) error {
	if err := e.cache.finishRemovals(ctx); err != nil {
		e.cache.fault("finish what an earlier eviction began", err)
	}
	if err := e.sort(ctx); err != nil {
		return err
	}
	return e.pins(ctx)
}

// sort finds which projects there is content of. That of a project which the configuration
// no longer names goes like any other, else it would stay for ever.
func (e *eviction) sort(ctx context.Context) error {
	stored, err := e.cache.catalog.ByProject(ctx)
	if err != nil {
		return fmt.Errorf("find the projects with content: %w", err)
	}
	keep := map[string]time.Duration{}
	configured := *e.cache.projects.Load()
	for name := range stored {
		keep[name] = defaultKeep
		if p := configured[name]; p != nil {
			keep[name] = max(0, p.Keep)
		}
	}
	for _, longest := range slices.Compact(slices.Sorted(maps.Values(keep))) {
		t := &tier{usedBefore: e.now.Add(-longest)}
		for name, own := range keep {
			if own <= longest {
				t.projects = append(t.projects, name)
			}
		}
		e.tiers = append(e.tiers, t)
	}
	return nil
}

// pins finds all content that is never to go: what a pinned tag leads to, and all that a
// repository has which is pinned as such.
func (e *eviction) pins(ctx context.Context) error {
	var roots, whole []registry.Digest
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
		err = e.cache.catalog.ProjectContent(ctx, p.Name, func(repo registry.Repo) bool { return p.rules.pinnedWhole(repo.Name) },
			func(d registry.Digest) error {
				whole = append(whole, d)
				return nil
			})
		if err != nil {
			return fmt.Errorf("list the content of project %s: %w", p.Name, err)
		}
	}
	var err error
	if e.pinned, err = e.cache.catalog.Closure(ctx, roots); err != nil {
		return fmt.Errorf("find what pinned tags refer to: %w", err)
	}
	for _, d := range whole {
		e.pinned[d] = true
	}
	return nil
}

// run removes candidates until there is room, and passes over what may not go.
func (e *eviction) run(ctx context.Context) error {
	for e.need > 0 {
		t, err := e.coldest(ctx)
		if err != nil {
			return err
		}
		if t == nil {
			return e.full // nil, unless something is still owed to the catalog
		}
		content := t.ahead[0]
		t.ahead = t.ahead[1:]
		if e.pinned[content.Digest] {
			continue
		}
		e.owed = append(e.owed, candidate{content, t})
		if err := e.settle(ctx); err != nil {
			return err
		}
	}
	return nil
}

// settle removes what is owed, the latest first. On a disk without any room left the catalog
// cannot forget a candidate whose bytes are gone; those of the next ones make room for that.
func (e *eviction) settle(ctx context.Context) error {
	e.full = nil
	for len(e.owed) > 0 {
		last := e.owed[len(e.owed)-1]
		removed, err := e.cache.remove(ctx, last.Digest, last.tier.projects, last.tier.usedBefore)
		if !removed && errors.Is(err, syscall.ENOSPC) && len(e.owed) < coldBatch {
			e.full = err
			return nil
		}
		e.owed = e.owed[:len(e.owed)-1]
		if removed {
			e.need -= last.Size
			e.done.Count++
			e.done.Bytes += last.Size
			e.cache.totals.evictedCount.Add(1)
			e.cache.totals.evictedBytes.Add(last.Size)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// coldest returns the tier whose next piece of content is the least recently used of all, or
// nil when there is none left. What is in two tiers comes twice, and is gone, or passed over,
// the second time.
func (e *eviction) coldest(ctx context.Context) (*tier, error) {
	var coldest *tier
	for _, t := range e.tiers {
		if len(t.ahead) == 0 && !t.end {
			var err error
			t.ahead, t.mark, err = e.cache.catalog.Coldest(ctx, t.projects, t.usedBefore, t.mark, coldBatch)
			if err != nil {
				return nil, fmt.Errorf("find the least recently used content: %w", err)
			}
			t.end = len(t.ahead) < coldBatch
		}
		if len(t.ahead) > 0 && (coldest == nil || t.ahead[0].UsedAt.Before(coldest.ahead[0].UsedAt)) {
			coldest = t
		}
	}
	return coldest, nil
}
