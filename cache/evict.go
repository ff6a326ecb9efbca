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
	Short int64 // bytes that had to go too but may not: pinned, in use, or younger than Keep
}

const (
	// slack is how much more goes than has to, as a fraction of what stays, so that the next blobs
	// do not need evictions of their own.
	slack = 20 // one twentieth

	// coldBatch is how many candidates are looked at in one go.
	coldBatch = 256

	// evictionLease lets one node at a time look how much there is and remove what is too much.
	evictionLease = "eviction"

	// turn is how many pieces the housekeeping removes before it lets a flight make room, which
	// has clients waiting.
	turn = 8
)

// Evict removes the least recently used content beyond the high-water mark, or as much as the
// disk lacks of its floor and of what is wanted above it, as far as that may go. Without Run its
// view of recency is that of the catalog. The error is Conflict while another node does that.
func (c *Cache) Evict(ctx context.Context) (Evicted, error) {
	c.looking.Lock()
	defer c.looking.Unlock()
	need, wanted, err := c.lack()
	if err != nil {
		return Evicted{}, err
	}
	if c.maxSize <= 0 && wanted == 0 {
		return c.say(Evicted{}), nil // without a question to the catalog
	}
	var done Evicted
	held := c.catalog.Hold(ctx, evictionLease, c.node, func(ctx context.Context, _ string) { done, err = c.evict(ctx, need, wanted) })
	if errors.Is(held, catalog.ErrHeld) {
		return Evicted{}, c.makesRoom(ctx)
	}
	return done, errors.Join(err, held)
}

// makesRoom is a Conflict that says which node makes room already.
func (c *Cache) makesRoom(ctx context.Context) error {
	who := "another process"
	if h, err := c.catalog.Holder(ctx, evictionLease); err == nil && h.Node != "" {
		who = h.Node
	}
	return &registry.Fault{Code: registry.Conflict, Message: who + " makes room already: wait for its end"}
}

// evict is Evict of so much as the disk lacks of its floor, and of what is wanted.
func (c *Cache) evict(ctx context.Context, need, wanted int64) (Evicted, error) {
	usage, err := c.catalog.Evictable(ctx)
	if err != nil {
		return Evicted{}, fmt.Errorf("read the usage: %w", err)
	}
	if c.maxSize > 0 {
		need = max(need, usage.Bytes-c.maxSize)
	}
	if need > usage.Bytes {
		// Somebody else fills the disk. All that is here would not be enough, and it is worth
		// more than that.
		return c.say(Evicted{Short: need}), nil
	}
	target := int64(0)
	if need > 0 {
		target = need + (usage.Bytes-need)/slack
	}
	if wanted <= usage.Bytes {
		target = max(target, wanted)
	}
	if target == 0 {
		return c.say(Evicted{}), nil
	}
	e, err := c.newEviction(ctx)
	if err != nil {
		return Evicted{}, err
	}
	for e.done.Bytes < target && !e.end {
		if err := e.some(ctx, target); err != nil {
			return e.done, err
		}
	}
	e.done.Short = max(0, need-e.done.Bytes)
	return c.say(e.done), nil
}

// lack says how many bytes the disk lacks of its floor, and of what is wanted above it.
func (c *Cache) lack() (floor, wanted int64, err error) {
	want := c.wanted.Swap(0)
	if floor, err = c.store.Lack(0); err == nil {
		wanted = floor
	}
	if err == nil && want > 0 {
		wanted, err = c.store.Lack(want)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("look for room: %w", err)
	}
	return floor, wanted, nil
}

// say logs what an eviction did, and that it could not do enough when that is news.
func (c *Cache) say(done Evicted) Evicted {
	if done.Count > 0 {
		c.log.Info("evicted", "count", done.Count, "bytes", done.Bytes, "short", done.Short)
	}
	if before := c.short.Swap(done.Short); done.Short > 0 && before == 0 {
		c.log.Warn("there is too much, and not enough of it may go: it is pinned, in use, or younger than keep", "short", done.Short)
	}
	return done
}

// eviction is one run.
type eviction struct {
	cache  *Cache
	now    time.Time
	tiers  []*tier
	pinned map[registry.Digest]bool
	end    bool        // there are no more candidates
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

func (c *Cache) newEviction(ctx context.Context) (*eviction, error) {
	c.writeTouches()
	e := &eviction{cache: c, now: time.Now()}
	if err := e.sort(ctx); err != nil {
		return nil, err
	}
	return e, e.pins(ctx)
}

// sort finds which projects there is content of. That of a project which the configuration
// no longer names goes like any other, else it would stay for ever. That of hosted projects is
// nobody's to evict, and neither is what one of them shares with others: upstream need not have it.
func (e *eviction) sort(ctx context.Context) error {
	stored, err := e.cache.catalog.ByProject(ctx)
	if err != nil {
		return fmt.Errorf("find the projects with content: %w", err)
	}
	hosted, err := e.cache.catalog.Projects(ctx)
	if err != nil {
		return fmt.Errorf("find the hosted projects: %w", err)
	}
	for _, p := range hosted {
		delete(stored, p.Name)
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

// some removes candidates until so many bytes are gone, or its turn is over.
func (e *eviction) some(ctx context.Context, target int64) error {
	e.cache.evicting.Lock()
	defer e.cache.evicting.Unlock()
	for range turn {
		if e.done.Bytes >= target {
			return nil
		}
		next, ok, err := e.next(ctx)
		if err != nil {
			return err
		}
		if !ok {
			e.end = true
			return e.full // nil, unless something is still owed to the catalog
		}
		if err := e.remove(ctx, next); err != nil {
			return err
		}
	}
	return nil
}

// gather returns candidates of at least so many bytes, or none when there are not as many.
func (e *eviction) gather(ctx context.Context, bytes int64) ([]candidate, error) {
	var all []candidate
	for bytes > 0 {
		next, ok, err := e.next(ctx)
		if err != nil || !ok {
			return nil, err
		}
		all = append(all, next)
		bytes -= next.Size
	}
	return all, nil
}

// next returns the next candidate that is not pinned.
func (e *eviction) next(ctx context.Context) (candidate, bool, error) {
	for {
		t, err := e.coldest(ctx)
		if err != nil || t == nil {
			return candidate{}, false, err
		}
		cold := t.ahead[0]
		t.ahead = t.ahead[1:]
		if !e.pinned[cold.Digest] {
			return candidate{cold, t}, true, nil
		}
	}
}

// remove removes a candidate, and before it what is still owed. On a disk without any room left
// the catalog cannot forget a candidate whose bytes are gone; those of the next ones make room
// for that.
func (e *eviction) remove(ctx context.Context, next candidate) error {
	e.owed, e.full = append(e.owed, next), nil
	for len(e.owed) > 0 {
		last := e.owed[len(e.owed)-1]
		removed, err := e.cache.remove(ctx, last.Digest, last.tier.projects, last.tier.usedBefore)
		if !removed && errors.Is(err, syscall.ENOSPC) && len(e.owed) < coldBatch {
			e.full = err
			return nil
		}
		e.owed = e.owed[:len(e.owed)-1]
		if removed {
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
