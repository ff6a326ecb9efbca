package server

import "sync/atomic"

// Stats is what a server has done since it was made, and what it is doing.
type Stats struct {
	// Requests counts what has ended. Every series that there can be is in it from the start.
	Requests map[Series]int64

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
	}
	for k := range c.requests {
		for class := range c.requests[k] {
			stats.Requests[Series{Kind: names[k], Class: classNames[class]}] = c.requests[k][class].Load()
		}
	}
	return stats
}
