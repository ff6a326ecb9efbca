package upstream

import (
	"sync"
	"time"
)

// circuits know which hosts are down, so that nobody waits for them: after enough failures a
// host is not asked for a while, and then by one request at a time (U1, U6, U19).
type circuits struct {
	mu    sync.Mutex
	hosts map[string]*circuit // hosts with trouble only
}

type circuit struct {
	failures int
	probe    time.Time // when the next request may pass; zero: all may
}

// How a failure counts. A circuit opens at openAt: at once when no connection can be made,
// which one more request would not change; after two of the costly silences; and only after
// several broken answers in a row, because one broken blob says little about the rest.
const (
	openAt      = 5
	unreachable = 5
	silent      = 3
	broken      = 1

	// probeEvery is half of the second in which a client expects to notice that upstream is
	// back (PEERS.md, "first success after recovery").
	probeEvery = 500 * time.Millisecond

	// mostHosts bounds memory: redirects can name any number of hosts that do not exist.
	mostHosts = 256
)

// passes says whether a request to a host may be made now.
func (c *circuits) passes(host string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hosts[host]
	if h == nil || h.probe.IsZero() {
		return true
	}
	now := time.Now()
	if now.Before(h.probe) {
		return false
	}
	// The next probe does not wait for this one's end: a connection that hangs would keep the
	// circuit open long after the host is back.
	h.probe = now.Add(probeEvery)
	return true
}

// answered closes the circuit of a host.
func (c *circuits) answered(host string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.hosts, host)
}

// failed counts a failure.
func (c *circuits) failed(host string, weight int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hosts[host]
	if h == nil {
		if len(c.hosts) >= mostHosts {
			clear(c.hosts)
		}
		if c.hosts == nil {
			c.hosts = map[string]*circuit{}
		}
		h = &circuit{}
		c.hosts[host] = h
	}
	h.failures += weight
	if h.failures >= openAt {
		h.probe = time.Now().Add(probeEvery)
	}
}

// open says whether the circuit of a host is open.
func (c *circuits) open(host string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hosts[host]
	return h != nil && !h.probe.IsZero()
}
