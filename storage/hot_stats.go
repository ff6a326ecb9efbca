package storage

import "sync/atomic"

// HotStats are figures of the copies on this machine of content that is kept elsewhere. What counts
// something counts from the start of the process.
type HotStats struct {
	MaxBytes     int64 // that the copies may have together
	Bytes        int64 // that those have of which it is known
	Count        int64 // of those
	Fills        int   // pieces that are being brought
	Hits         int64 // pieces opened of which there was a copy
	Misses       int64 // of which there was none
	Filled       int64 // copies made
	FilledBytes  int64
	Evicted      int64 // copies removed to make room
	EvictedBytes int64
	Passed       int64 // pieces that were not copied: too large, too many at once, no room, or trouble
	Damaged      int64 // copies that were not what they should be, and were dropped
	Rotten       int64 // pieces whose bytes were wrong where they are kept, found while they were copied
	Faults       int64 // troubles of the directory

	Trouble error // what was last wrong with the directory; nil when it has worked since
}

type hotCounts struct {
	hits, misses, filled, filledBytes, evicted, evictedBytes, passed, damaged, rotten, faults atomic.Int64
}

// Hot returns the figures of the copies on this machine; ok is false where there are to be none.
func (s *Store) Hot() (stats HotStats, ok bool) {
	h := s.hot
	if h == nil {
		return HotStats{}, false
	}
	c := &h.counts
	stats = HotStats{
		MaxBytes: h.most, Hits: c.hits.Load(), Misses: c.misses.Load(), Filled: c.filled.Load(), FilledBytes: c.filledBytes.Load(),
		Evicted: c.evicted.Load(), EvictedBytes: c.evictedBytes.Load(), Passed: c.passed.Load(), Damaged: c.damaged.Load(),
		Rotten: c.rotten.Load(), Faults: c.faults.Load(), Fills: len(h.slots),
	}
	if t := h.trouble.Load(); t != nil {
		stats.Trouble = t.err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	stats.Bytes, stats.Count = h.shelf.bytes, int64(len(h.shelf.all))
	return stats, true
}
