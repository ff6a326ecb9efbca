package s3

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// Stats are the requests of one method that a driver has sent since it was made.
type Stats struct {
	Method string

	// Requests counts them by how they were answered: a class of classes. "none" is one that brought no
	// answer, and one whose caller did not wait for it is not counted. Every class is in it from the start.
	Requests map[string]int64

	// Counts[i] is of those whose answer began, or failed to, within Bounds[i] and not within the bound
	// before; the last one is of those above all bounds.
	Bounds []time.Duration
	Counts []int64
	Sum    time.Duration
}

// methods are those that the protocol has.
var methods = [...]string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodDelete}

var classes = [...]string{"2xx", "3xx", "404", "429", "4xx", "5xx", "none"}

// bounds reach from a server next door to a part that goes over a slow line.
var bounds = [...]time.Duration{
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second,
}

// counters are what Stats is read from, in the order of methods.
type counters [len(methods)]struct {
	requests [len(classes)]atomic.Int64
	counts   [len(bounds) + 1]atomic.Int64
	sum      atomic.Int64
}

// count counts a request; status zero is no answer.
func (c *counters) count(method string, status int, took time.Duration) {
	class := "none"
	switch {
	case status == http.StatusNotFound || status == http.StatusTooManyRequests:
		class = strconv.Itoa(status)
	case status >= 200 && status < 600:
		class = strconv.Itoa(status/100) + "xx"
	}
	for m := range methods {
		if methods[m] != method {
			continue
		}
		for i := range classes {
			if classes[i] == class {
				c[m].requests[i].Add(1)
			}
		}
		i := 0
		for i < len(bounds) && took > bounds[i] {
			i++
		}
		c[m].counts[i].Add(1)
		c[m].sum.Add(int64(took))
	}
}

// Stats returns the figures as they are now, one for each method.
func (d *Driver) Stats() []Stats {
	var all []Stats
	for m := range methods {
		of := &d.transport.stats[m]
		s := Stats{Method: methods[m], Requests: map[string]int64{}, Bounds: bounds[:], Sum: time.Duration(of.sum.Load())}
		for i := range classes {
			s.Requests[classes[i]] = of.requests[i].Load()
		}
		for i := range of.counts {
			s.Counts = append(s.Counts, of.counts[i].Load())
		}
		all = append(all, s)
	}
	return all
}
