package cache

import (
	"slices"
	"time"

	"roadstead/registry"
)

// Flight is a download under way.
type Flight struct {
	Repo      registry.Repo // that upstream is asked for it in
	Digest    registry.Digest
	MediaType string    // by the word of a manifest; "" when none is known that names it
	Size      int64     // in bytes; -1 when not known
	Written   int64     // bytes that are here
	Whole     bool      // all of them are here and proved; they are being stored
	Readers   int       // who is reading along, or waits for the first byte
	Since     time.Time // when it began
}

// Flights lists the downloads under way, oldest first. It takes no lock for longer than it takes to
// copy a few words for each.
func (c *Cache) Flights() []Flight {
	c.flightsMu.Lock()
	under := make([]*flight, 0, len(c.flights))
	for _, f := range c.flights {
		under = append(under, f)
	}
	c.flightsMu.Unlock()
	all := make([]Flight, len(under))
	for i, f := range under {
		all[i] = f.look()
	}
	slices.SortFunc(all, func(a, b Flight) int { return a.Since.Compare(b.Since) })
	return all
}

// look is the flight as it is now.
func (f *flight) look() Flight {
	f.mu.Lock()
	defer f.mu.Unlock()
	size := f.size
	if size < 0 {
		size = f.expected
	}
	return Flight{
		Repo: f.key.repo, Digest: f.key.digest, MediaType: f.mediaType, Since: f.since,
		Size: size, Written: f.written, Whole: f.proved, Readers: max(0, f.holders-1),
	}
}
