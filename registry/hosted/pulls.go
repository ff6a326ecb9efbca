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
	manifests []registry.Digest
	noted     map[registry.Digest]int64 // in which grain of time it was last among manifests
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

// waits reports whether a pull by tag waits to be written.
func (p *pulls) waits(repo registry.Repo, tag string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.tags[pulled{repo, tag}]
	return ok
}

// manifest notes a pull by digest.
func (p *pulls) manifest(d registry.Digest, now time.Time) {
	grain := now.UnixNano() / int64(pulledGrain)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.noted[d] == grain {
		return
	}
	if p.noted == nil || len(p.noted) >= mostPulled {
		p.noted = map[registry.Digest]int64{}
	}
	p.noted[d] = grain
	if len(p.manifests) < mostPulled {
		p.manifests = append(p.manifests, d)
	}
}

// take returns what waits, which waits no more.
func (p *pulls) take() (tags map[pulled]time.Time, manifests []registry.Digest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	tags, manifests = p.tags, p.manifests
	p.tags, p.manifests = nil, nil
	return tags, manifests
}

// putBack has what was taken wait again.
func (p *pulls) putBack(tags map[pulled]time.Time, manifests []registry.Digest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tags == nil {
		p.tags = map[pulled]time.Time{}
	}
	for name, at := range tags {
		if p.tags[name].Before(at) && len(p.tags) < mostPulled {
			p.tags[name] = at
		}
	}
	p.manifests = append(p.manifests, manifests[:min(len(manifests), mostPulled-len(p.manifests))]...)
}
