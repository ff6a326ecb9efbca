package server

import (
	"net/http"
	"sync/atomic"
	"time"

	"roadstead/registry"
)

// Histogram counts durations. Counts[i] is of those up to Bounds[i] and above the bound before; the
// last one is of those above all bounds.
type Histogram struct {
	Bounds []time.Duration
	Counts []int64
	Sum    time.Duration
}

// bounds reach from a manifest in memory to the longest that upstream is waited for.
var bounds = [...]time.Duration{
	250 * time.Microsecond, time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 15 * time.Second,
}

// histogram is a Histogram while it is counted.
type histogram struct {
	counts [len(bounds) + 1]atomic.Int64
	sum    atomic.Int64
}

func (h *histogram) add(d time.Duration) {
	i := 0
	for i < len(bounds) && d > bounds[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(int64(d))
}

func (h *histogram) read() Histogram {
	out := Histogram{Bounds: bounds[:], Sum: time.Duration(h.sum.Load())}
	for i := range h.counts {
		out.Counts = append(out.Counts, h.counts[i].Load())
	}
	return out
}

// outcomes are all that a request can have, in the order of counters.first.
var outcomes = [...]registry.Outcome{"", registry.Hit, registry.Join, registry.Stale, registry.Held, registry.Miss}

// first counts how long the first byte took of an answer that was none before now.
func (s *Server) first(res *response) {
	if k := res.target.kind; k != manifest && k != blob || res.status >= http.StatusBadRequest {
		return
	}
	for i, o := range outcomes {
		if res.trace.Outcome == o {
			s.counters.first[i].add(time.Since(res.start))
		}
	}
}

// Stats is what a server has done since it was made, and what it is doing.
type Stats struct {
	// Requests counts what has ended. Every series that there can be is in it from the start.
	Requests map[Series]int64

	// FirstByte is how long manifests and blobs that were not refused took from the request to the first byte of
	// the answer, by outcome. Every outcome is in it from the start; "" is of what no cache was asked for.
	FirstByte map[registry.Outcome]Histogram

	Bytes       int64 // of bodies that were sent, but for what is no path of the registry API
	Received    int64 // bytes of blobs and manifests that were pushed, whatever became of them
	Uploads     int64 // blobs that were pushed to their end
	Mounts      int64 // blobs that were taken from another repository instead
	InFlight    int64 // requests being answered
	Connections int64 // open ones
	Panics      int64 // in handlers, each of which cost its client the connection
	Stalled     int64 // requests whose client took or sent nothing for too long
}

// Series tells requests apart. Both values come from small closed sets.
type Series struct {
	Kind string // ping, catalog, manifest, blob, upload, tags, referrers, nothing, other

	// Class is 2xx, 3xx, 4xx or 5xx; or "gone" when the client left before the end, or "cut"
	// when the body was broken off because its rest could not be had.
	Class string
}

// The classes beside those of the status.
const (
	gone = "gone"
	cut  = "cut"
)

// classes is how many there are, and classNames what they are called.
const classes = 6

var classNames = [classes]string{"2xx", "3xx", "4xx", "5xx", gone, cut}

// counters are what Stats reports.
type counters struct {
	requests    [kinds][classes]atomic.Int64
	bytes       atomic.Int64
	received    atomic.Int64
	uploads     atomic.Int64
	mounts      atomic.Int64
	inFlight    atomic.Int64
	connections atomic.Int64
	panics      atomic.Int64
	stalled     atomic.Int64
	first       [len(outcomes)]histogram
}

// count counts a request that has ended. how is gone, cut or empty.
func (s *Server) count(res *response, how string) {
	class := min(max(res.status/100, 2), 5) - 2
	switch how {
	case gone:
		class = 4
	case cut:
		class = 5
	}
	s.counters.requests[res.target.kind][class].Add(1)
	if res.target.kind != other {
		s.counters.bytes.Add(res.bytes) // pages and the REST API are nothing that a cache could have saved
	}
	if res.push != nil {
		s.counters.received.Add(res.push.received)
	}
}

// Stats returns the counters as they are now.
func (s *Server) Stats() Stats {
	c := &s.counters
	stats := Stats{
		Requests:    make(map[Series]int64, int(kinds)*classes),
		Bytes:       c.bytes.Load(),
		Received:    c.received.Load(),
		Uploads:     c.uploads.Load(),
		Mounts:      c.mounts.Load(),
		InFlight:    c.inFlight.Load(),
		Connections: c.connections.Load(),
		Panics:      c.panics.Load(),
		Stalled:     c.stalled.Load(),
		FirstByte:   make(map[registry.Outcome]Histogram, len(outcomes)),
	}
	for i, o := range outcomes {
		stats.FirstByte[o] = c.first[i].read()
	}
	for k := range c.requests {
		for class := range c.requests[k] {
			stats.Requests[Series{Kind: names[k], Class: classNames[class]}] = c.requests[k][class].Load()
		}
	}
	return stats
}
