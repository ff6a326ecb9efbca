package upstream

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Stats are the figures of an upstream since it was made.
type Stats struct {
	// Requests counts requests that were sent, those to token services and redirect targets
	// included, by how they were answered: a class of Classes.
	Requests map[string]int64

	Tokens  int64 // token requests among them
	Retries int64 // requests that were made again
	Resumes int64 // bodies that were taken up again where they broke
	Bytes   int64 // of bodies

	// Latency counts requests by the time from sending to the beginning of the answer, or to
	// its failure.
	Latency Histogram

	// Limit is what upstream last said of its pull limit.
	Limit RateLimit

	Endpoints []EndpointStats // in the configured order
}

// Classes are all keys of Stats.Requests. "none" is a request that brought no answer.
var Classes = []string{"2xx", "3xx", "401", "404", "429", "4xx", "5xx", "none"}

// Histogram counts durations. Counts[i] is of those up to Bounds[i] and above the bound
// before; the last one is of those above all bounds.
type Histogram struct {
	Bounds []time.Duration
	Counts []int64
	Sum    time.Duration
}

// RateLimit is Docker Hub's pull limit: how many pulls there are in a window of time and how
// many remain. At is when it said so; zero: never.
type RateLimit struct {
	Limit     int64
	Remaining int64
	Window    time.Duration
	At        time.Time
}

// EndpointStats is the state of an endpoint.
type EndpointStats struct {
	Host string

	// Asked says that it was asked since it is known here. Otherwise nobody knows how it is.
	Asked bool

	// Down says that it is not asked but for a probe twice a second.
	Down bool

	// QuietUntil is until when it wants no requests (429). Zero, or past: it takes them.
	QuietUntil time.Time
}

// Stats returns the figures as they are now.
func (r *Registry) Stats() Stats {
	s := r.stats.read()
	for _, e := range r.endpoints {
		e.mu.Lock()
		quiet := e.silent
		e.mu.Unlock()
		s.Endpoints = append(s.Endpoints, EndpointStats{Host: e.base.Host, Asked: e.asked.Load(), Down: r.circuits.open(e.base.Host), QuietUntil: quiet})
	}
	return s
}

// counters are what Stats is read from.
type counters struct {
	requests [8]atomic.Int64 // as Classes
	tokens   atomic.Int64
	retries  atomic.Int64
	resumes  atomic.Int64
	bytes    atomic.Int64
	latency  histogram

	mu    sync.Mutex
	limit RateLimit
}

func (c *counters) read() Stats {
	s := Stats{
		Requests: map[string]int64{},
		Tokens:   c.tokens.Load(), Retries: c.retries.Load(), Resumes: c.resumes.Load(), Bytes: c.bytes.Load(),
		Latency: c.latency.read(),
	}
	for i, class := range Classes {
		s.Requests[class] = c.requests[i].Load()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.Limit = c.limit
	return s
}

// count counts an answer; status zero is none.
func (c *counters) count(status int) {
	class := "none"
	switch {
	case status == http.StatusUnauthorized || status == http.StatusNotFound || status == http.StatusTooManyRequests:
		class = strconv.Itoa(status)
	case status >= 200 && status < 600:
		class = strconv.Itoa(status/100) + "xx"
	}
	for i := range Classes {
		if Classes[i] == class {
			c.requests[i].Add(1)
		}
	}
}

// noteLimit keeps the rate limit fields of an answer, "100;w=21600" (Docker, "Usage and rate
// limits").
func (c *counters) noteLimit(h http.Header) {
	remaining, _, ok := limit(h.Get("Ratelimit-Remaining"))
	if !ok {
		return
	}
	most, window, _ := limit(h.Get("Ratelimit-Limit"))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limit = RateLimit{Limit: most, Remaining: remaining, Window: window, At: time.Now()}
}

func limit(field string) (n int64, window time.Duration, ok bool) {
	text, params, _ := strings.Cut(field, ";")
	n, ok = number(strings.TrimSpace(text))
	if seconds, is := strings.CutPrefix(strings.TrimSpace(params), "w="); is {
		if w, ok := number(seconds); ok && w < 1<<31 {
			window = time.Duration(w) * time.Second
		}
	}
	return n, window, ok
}

// bounds reach from a registry next door to the longest that is waited for.
var bounds = []time.Duration{
	5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

type histogram struct {
	counts [12]atomic.Int64 // one more than bounds
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
	out := Histogram{Bounds: bounds, Sum: time.Duration(h.sum.Load())}
	for i := range h.counts {
		out.Counts = append(out.Counts, h.counts[i].Load())
	}
	return out
}
