package cache

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"

	"roadstead/registry"
)

// Stats are the cache's figures since its start.
type Stats struct {
	Projects map[string]ProjectStats // of the configured projects

	Flights     int   // downloads under way
	MemoryBytes int64 // of manifests in memory
	MaxSize     int64 // high-water mark in bytes; 0: none

	// Counted says that the catalog has answered: else the next three are zero, and not what is stored.
	Counted     bool
	StoredBytes int64 // content by the catalog's count, what was pushed with it
	StoredCount int64

	// ProxiedBytes is what of it MaxSize bounds: content that no hosted project has, by the catalog's count.
	ProxiedBytes int64

	Short int64 // bytes that the last look for room found too many and could not evict

	EvictedBytes, EvictedCount int64
	PassThrough                int64 // content that could not be kept and was served all the same
	Dropped                    int64 // writes to the catalog that were not made
	Waiting                    int   // writes that wait for the catalog
	LaidOut                    int64 // answers of the layout in place of the catalog, which was away
	Faults                     int64 // troubles of the cache's own, each logged
}

// ProjectStats are the figures of one project. The first four count answers: from what is
// here; from upstream; from a download that another request had started; from what is here
// because upstream could not be asked.
type ProjectStats struct {
	Hits, Misses, Joins, Stale int64
	Denied                     int64 // refused by an allow or deny list
	Unverified                 int64 // without a good signature: refused or, where that is only warned of, served
	TagsHeld                   int64 // tags that wait for the project's cooldown now
	Cooling                    bool  // it has one
	Held                       int64 // answers with what a tag was before, which has moved upstream
	Corrupt                    int64 // content from upstream that was not what its digest says
	BytesUpstream              int64 // manifest and blob bytes received
}

// figures count for one project, across changes of its configuration.
type figures struct {
	hits, misses, joins, stale atomic.Int64
	denied, corrupt, upstream  atomic.Int64
	unverified, held           atomic.Int64
}

// count notes how a question was answered, for the project and for the request: a hit, a miss
// or a join.
func (f *figures) count(ctx context.Context, o registry.Outcome) {
	switch o {
	case registry.Hit:
		f.hits.Add(1)
	case registry.Miss:
		f.misses.Add(1)
	case registry.Join:
		f.joins.Add(1)
	}
	registry.Note(ctx, o)
}

// countHeld notes that a record is older than upstream's answer, if it is.
func (f *figures) countHeld(ctx context.Context, r tagRecord) {
	if r.held != "" {
		f.held.Add(1)
		registry.NoteHeld(ctx, r.held)
	}
}

// countStale notes an answer that was stale, and why.
func (f *figures) countStale(ctx context.Context, why error) {
	f.stale.Add(1)
	registry.NoteStale(ctx, why)
}

// totals count for the whole cache.
type totals struct {
	evictedBytes, evictedCount atomic.Int64
	passed, dropped, faults    atomic.Int64
	laidOut                    atomic.Int64
}

// Stats returns the figures as they are now. Those of stored content are zero when the catalog
// does not answer.
func (c *Cache) Stats() Stats {
	s := Stats{
		Projects:     map[string]ProjectStats{},
		MemoryBytes:  c.memory.bytes(),
		MaxSize:      c.maxSize,
		EvictedBytes: c.totals.evictedBytes.Load(),
		EvictedCount: c.totals.evictedCount.Load(),
		PassThrough:  c.totals.passed.Load(),
		Dropped:      c.totals.dropped.Load(),
		Faults:       c.totals.faults.Load(),
		Waiting:      len(c.recorder.queue),
		LaidOut:      c.totals.laidOut.Load(),
		Short:        c.short.Load(),
	}
	for name, p := range *c.projects.Load() {
		f := p.figures
		s.Projects[name] = ProjectStats{
			Hits: f.hits.Load(), Misses: f.misses.Load(), Joins: f.joins.Load(), Stale: f.stale.Load(),
			Cooling: p.Cooldown > 0,
			Denied:  f.denied.Load(), Unverified: f.unverified.Load(), Held: f.held.Load(), Corrupt: f.corrupt.Load(), BytesUpstream: f.upstream.Load(),
		}
	}
	c.countHeldTags(s.Projects)
	c.flightsMu.Lock()
	s.Flights = len(c.flights)
	c.flightsMu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), catalogPatience)
	defer cancel()
	stored, err := c.catalog.Usage(ctx)
	proxied, also := c.catalog.Evictable(ctx)
	if err == nil && also == nil {
		s.Counted, s.StoredBytes, s.StoredCount, s.ProxiedBytes = true, stored.Bytes, stored.Count, proxied.Bytes
	}
	return s
}

// countHeldTags asks the catalog for tags that are held, if any project holds some.
func (c *Cache) countHeldTags(of map[string]ProjectStats) {
	if !slices.ContainsFunc(slices.Collect(maps.Values(of)), func(p ProjectStats) bool { return p.Cooling }) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), catalogPatience)
	defer cancel()
	held, err := c.catalog.HeldTags(ctx)
	if err != nil {
		return
	}
	for name, p := range of {
		if p.Cooling {
			p.TagsHeld = held[name]
			of[name] = p
		}
	}
}
