package hosted

import (
	"sync"
	"time"

	"roadstead/registry"
)

// pulls remembers what was pulled until it is written to the catalog, so that no pull costs a
// write.
type pulls struct {
	mu        sync.Mutex
	tags      map[pulled]time.Time
	manifests map[registry.Digest]time.Time
}

type pulled struct {
	repo registry.Repo
	tag  string
}

const (
	// pulledGrain is how exactly a pull is known: rules speak of days, and an hour's grain saves
	// almost every write.
	pulledGrain = time.Hour

	// mostPulled bounds what waits to be written, to some 20 MB of each kind.
	mostPulled = 1 << 16
)

// tag notes a pull by tag. before is what the catalog knows.
func (p *pulls) tag(repo registry.Repo, tag string, before, now time.Time) {
	if now.Sub(before) < pulledGrain {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tags == nil {
		p.tags = map[pulled]time.Time{}
	}
	if len(p.tags) < mostPulled {
		p.tags[pulled{repo, tag}] = now
	}
}

// manifest notes a pull by digest.
func (p *pulls) manifest(d registry.Digest, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.manifests == nil {
		p.manifests = map[registry.Digest]time.Time{}
	}
	if len(p.manifests) < mostPulled {
		p.manifests[d] = now
	}
}

// take returns what waits, which waits no more.
func (p *pulls) take() (tags map[pulled]time.Time, manifests map[registry.Digest]time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	tags, manifests = p.tags, p.manifests
	p.tags, p.manifests = nil, nil
	return tags, manifests
}
