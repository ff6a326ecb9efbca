package api

import (
	"slices"
	"strings"
	"time"

	"roadstead/registry"
	"roadstead/registry/access"
)

// Upstream is how the registry is that a project is a cache of, since the server began.
type Upstream struct {
	Project   string     `json:"project"`
	Endpoints []Endpoint `json:"endpoints"` // in their order
	Limit     *PullLimit `json:"limit"`     // nil: it has told none

	Requests map[string]int64 `json:"requests"` // by how they were answered: "2xx", "429", "none" …
	Tokens   int64            `json:"tokens"`   // requests for tokens among them
	Retries  int64            `json:"retries"`
	Resumes  int64            `json:"resumes"` // bodies that were taken up again where they broke
	Received int64            `json:"received_bytes"`
}

// Endpoint is an address of such a registry.
type Endpoint struct {
	Host       string    `json:"host"`
	Asked      bool      `json:"asked"`                // false: since the start nobody has, and Up is a guess
	Up         bool      `json:"up"`                   // false: it is only probed
	QuietUntil time.Time `json:"quiet_until,omitzero"` // when it takes requests again; zero: now
}

// PullLimit is how many pulls an upstream allows in a window of time, as Docker Hub says it.
type PullLimit struct {
	Limit     int64     `json:"limit"`
	Remaining int64     `json:"remaining"`
	Window    int64     `json:"window_seconds"`
	At        time.Time `json:"said_time"`
}

// Figures are those of the cache since the server began.
type Figures struct {
	Answers
	Projects map[string]Answers `json:"projects"`

	Sent         int64 `json:"sent_bytes"` // to clients
	Flights      int   `json:"flights"`
	MemoryBytes  int64 `json:"memory_bytes"`
	StoredBytes  int64 `json:"stored_bytes"`  // with what was pushed
	ProxiedBytes int64 `json:"proxied_bytes"` // of these, what max_size bounds
	StoredCount  int64 `json:"stored_count"`
	MaxSize      int64 `json:"max_size"` // bytes; 0: only the free space bounds it
	EvictedBytes int64 `json:"evicted_bytes"`
	EvictedCount int64 `json:"evicted_count"`
	PassThrough  int64 `json:"pass_through"` // pieces that were served without being kept
	Dropped      int64 `json:"dropped_writes"`
	Faults       int64 `json:"faults"`
}

// Answers count how requests were answered: from what is here, from upstream, from a download that
// another request had begun, from what is here because upstream could not be asked.
type Answers struct {
	Hits     int64 `json:"hits"`
	Misses   int64 `json:"misses"`
	Joins    int64 `json:"joins"`
	Stale    int64 `json:"stale"`
	Denied   int64 `json:"denied"`
	Corrupt  int64 `json:"corrupt"` // pieces from upstream that were not what they should be
	Received int64 `json:"received_bytes"`
}

func (a *Answers) add(b Answers) {
	a.Hits += b.Hits
	a.Misses += b.Misses
	a.Joins += b.Joins
	a.Stale += b.Stale
	a.Denied += b.Denied
	a.Corrupt += b.Corrupt
	a.Received += b.Received
}

// mayCount says why figures of the whole server are not for whoever asks, or nil.
func (c *call) mayCount() error { return c.estate.MayIn(c.who, registry.Read, access.Statistics, "") }

func (c *call) listUpstreams() error {
	if err := c.mayCount(); err != nil {
		return err
	}
	var all []Upstream
	if c.config.Upstreams != nil {
		all = c.config.Upstreams()
	}
	slices.SortFunc(all, func(a, b Upstream) int { return strings.Compare(a.Project, b.Project) })
	now := time.Now()
	for _, u := range all {
		if u.Limit != nil {
			u.Limit.At = u.Limit.At.UTC().Truncate(time.Millisecond)
		}
		for i, e := range u.Endpoints {
			if e.QuietUntil.Before(now) {
				u.Endpoints[i].QuietUntil = time.Time{}
			} else {
				u.Endpoints[i].QuietUntil = e.QuietUntil.UTC().Truncate(time.Millisecond)
			}
		}
	}
	return cut(c, all)
}

func (c *call) readCache() error {
	if err := c.mayCount(); err != nil {
		return err
	}
	f := Figures{}
	if c.config.Cache != nil {
		f = c.config.Cache()
	}
	if f.Projects == nil {
		f.Projects = map[string]Answers{}
	}
	f.Answers = Answers{}
	for _, a := range f.Projects {
		f.add(a)
	}
	return c.ok(f)
}
