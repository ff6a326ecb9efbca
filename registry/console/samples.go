package console

import (
	"context"
	"sync"
	"time"

	"roadstead/cache"
	"roadstead/registry/server"
)

const (
	// sampleEvery is how often the figures are noted: often enough to see a burst of pulls.
	sampleEvery = 10 * time.Second

	// sampleAge is how long they are kept, in memory, which takes half a megabyte.
	sampleAge = 24 * time.Hour

	sampleCount = int(sampleAge / sampleEvery)
)

// sample is what the counters of the house were at a time.
type sample struct {
	at       time.Time
	hits     int64 // answers from what is here, stale ones among them
	misses   int64
	joins    int64 // of a download that another request had started: upstream was asked once for all
	upstream int64 // bytes received
	clients  int64 // bytes sent
}

// samples is a ring of them.
type samples struct {
	mu   sync.Mutex
	ring []sample
	next int // where the next one goes once the ring is full
}

func (s *samples) add(one sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ring) < sampleCount {
		s.ring = append(s.ring, one)
		return
	}
	s.ring[s.next] = one
	s.next = (s.next + 1) % len(s.ring)
}

// since lists the samples from a time on, the oldest first.
func (s *samples) since(t time.Time) []sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []sample
	for i := range s.ring {
		if one := s.ring[(s.next+i)%len(s.ring)]; !one.at.Before(t) {
			all = append(all, one)
		}
	}
	return all
}

// Run notes the figures of the house until ctx ends, and then has what streams to browsers end too.
func (c *Console) Run(ctx context.Context) error {
	defer close(c.closing)
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	c.samples.add(take(time.Now(), c.config.Cache(), c.config.Server()))
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			c.samples.add(take(now, c.config.Cache(), c.config.Server()))
		}
	}
}

func take(at time.Time, cached cache.Stats, served server.Stats) sample {
	s := sample{at: at, clients: served.Bytes}
	for _, p := range cached.Projects {
		s.hits += p.Hits
		s.misses += p.Misses
		s.joins += p.Joins
		s.upstream += p.BytesUpstream
	}
	return s
}

// step is what happened between two samples, or several of them taken together.
type step struct {
	from, to time.Time
	answers  int64
	found    int64   // of them, without asking upstream again
	upstream float64 // bytes a second
	clients  float64
	known    bool // there were samples in it
}

// ratio is the share of answers for which upstream was not asked again.
func (s step) ratio() float64 {
	if s.answers == 0 {
		return 0
	}
	return float64(s.found) / float64(s.answers)
}

// steps joins samples to at most n steps of the same length within a window that ends now. A
// counter that is less than before is one of a project that has gone: nothing is known of it then.
func steps(all []sample, from, to time.Time, n int) []step {
	width := to.Sub(from) / time.Duration(n)
	list := make([]step, n)
	seconds := make([]float64, n)
	for i := range list {
		list[i].from, list[i].to = from.Add(time.Duration(i)*width), from.Add(time.Duration(i+1)*width)
	}
	for i := 1; i < len(all); i++ {
		before, after := all[i-1], all[i]
		at := int(after.at.Sub(from) / width)
		if at < 0 || at > n {
			continue
		}
		s := &list[min(at, n-1)]
		seconds[min(at, n-1)] += after.at.Sub(before.at).Seconds()
		found := max(after.hits-before.hits, 0) + max(after.joins-before.joins, 0)
		s.found += found
		s.answers += found + max(after.misses-before.misses, 0)
		s.upstream += float64(max(after.upstream-before.upstream, 0))
		s.clients += float64(max(after.clients-before.clients, 0))
	}
	for i := range list {
		if seconds[i] > 0 {
			list[i].known = true
			list[i].upstream /= seconds[i]
			list[i].clients /= seconds[i]
		}
	}
	return list
}
